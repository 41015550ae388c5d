"""How work on files tells its progress: a callback that takes a line of text, never a print.

Belongs here: the callback's type and how often it is called.
Does not belong here: how progress is shown (``cli``).
"""

import time
from collections.abc import Callable

OnProgress = Callable[[str], None]
"""Called with one line of text."""

_SECONDS = 2.0


def silent(line: str) -> None:
    """Show nothing."""
    del line


class ByteProgress:
    """Says every two seconds how much of a file is done; work that is over sooner says nothing.

    Parameters
    ----------
    what
        Start of the line: "downloading x.zip".
    total
        Bytes in all; ``None`` when the sender does not say.
    """

    def __init__(self, what: str, total: int | None, on_progress: OnProgress) -> None:
        self._what = what
        self._total = total
        self._on_progress = on_progress
        self._told = time.monotonic()

    def at(self, done: int) -> None:
        """Tell that ``done`` bytes are done, if it is time to."""
        if time.monotonic() - self._told < _SECONDS:
            return
        self._told = time.monotonic()
        of = f" of {self._total / 1e6:.0f} MB ({done / self._total:.0%})" if self._total else " MB"
        self._on_progress(f"{self._what}: {done / 1e6:.0f}{of}")
