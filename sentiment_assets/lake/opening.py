"""A Delta table opened without a JVM, also while another process commits to it.

Belongs here: the one way to open a table with delta-rs. Does not belong here: what is read from it (``delta``).
"""

from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
    wait_exponential,
)

_ATTEMPTS = 6


def open_table(path: Path | str, version: int | None = None) -> DeltaTable:
    """Open a table at its newest version, or at ``version``.

    delta-rs lists the log's folder, and a commit in the middle of that makes the list a mixture: "CRC file version 3604
    is newer than log segment version 3603" came once in some thousand looks at a table with two commits a second.
    Looking again helps, so an unreadable log is looked at for a second and a half before it counts as damaged.

    Raises
    ------
    DeltaError
        When there is no table (``TableNotFoundError``), or its log cannot be read.
    OSError
        When its folder cannot be read.
    """
    for attempt in Retrying(
        retry=retry_if_exception_type(DeltaError) & retry_if_not_exception_type(TableNotFoundError),
        wait=wait_exponential(multiplier=0.05, max=1),
        stop=stop_after_attempt(_ATTEMPTS),
        reraise=True,
    ):
        with attempt:
            return DeltaTable(str(path), version=version)
    raise AssertionError  # the last attempt returns or raises
