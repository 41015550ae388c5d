"""Our n-grams in compiled loops: for scoring at the speed of the stream, and for training in half the time.

The fitted MLlib pipeline stays the truth: what is compiled here only serves after it was shown to agree with it
(``agreement``). The order of things in scoring: ``export`` turns a pipeline into ``tables``; ``model`` scores a frame
with them; a Python worker of Spark runs ``worker``, which runs ``kernel``. In training ``counting`` makes the
vocabularies and ``vectors`` the vectors; their workers run ``learner``, with the loops of ``terms``.
Does not belong here: which version is served (``streaming.serving``).
"""
