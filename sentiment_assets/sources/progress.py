"""How long work on files tells its progress: a callback, never a print.

Belongs here: the callback's type. Does not belong here: how progress is shown (``cli``).
"""

from collections.abc import Callable

OnProgress = Callable[[str, int, int | None], None]
"""Called with what is being done, units done, units in total (``None``: not known), a few times a second."""


def silent(what: str, done: int, total: int | None) -> None:
    """Show nothing."""
    del what, done, total
