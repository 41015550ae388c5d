"""A linear model over our n-grams as tables and one compiled function, for scoring at the speed of the stream.

The fitted MLlib pipeline stays the truth: what is compiled here only serves after it was shown to agree with it
(``agreement``). The order of things: ``export`` turns a pipeline into ``tables``; ``model`` scores a frame with
them; a Python worker of Spark runs ``worker``, which runs ``kernel``.
Does not belong here: which version is served (``streaming.serving``).
"""
