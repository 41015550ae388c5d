"""Errors that a person can act on.

Belongs here: exception types whose message names the thing, the cause and the next step.
Does not belong here: how they are shown (``cli``) or when they are raised.
"""

import errno
import os
import sqlite3


class SentimentError(Exception):
    """A failure that the user can mend.

    Parameters
    ----------
    what
        What happened, naming the thing: "The file x.csv is empty."
    next_step
        What to do about it: "Download it again or name another file with --data."
    """

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what, next_step)
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what} {self.next_step}"


class SetupError(SentimentError):
    """The machine lacks something: Java, a jar, a free port, disk, a writable folder."""


class SourceError(SentimentError):
    """The training or replay data cannot be used as it is."""


class TrainingError(SentimentError):
    """A model cannot be fitted on this data with these settings."""


class ModelError(SentimentError):
    """A stored model is missing, damaged, or does not fit this installation."""


class BrokerError(SentimentError):
    """Kafka cannot be reached, or refuses."""


class NotAllowedError(BrokerError):
    """Kafka refuses our login or lacks our rights: no patience mends that."""


class StreamError(SentimentError):
    """The stream cannot start or go on: checkpoint, table or topic disagree, or a second writer runs."""


class TableError(SentimentError):
    """A Delta table is missing, has another schema, or is being written by another process."""


def disk_is_full(error: BaseException) -> bool:
    """Whether a full disk is behind an error: in its causes, or in what a process said that died of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # SQLite reports a log file that cannot grow as an input/output error.
        kind = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if isinstance(cause, sqlite3.Error) and kind in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return True
        cause = cause.__cause__
    return os.strerror(errno.ENOSPC) in str(error)


def first_line(error: BaseException) -> str:
    """What an error says first, or its name when it says nothing; libraries add traces and addresses below."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """What an error says last, where a Python worker's own error stands below the trace of what it passed through."""
    return next(reversed(str(error).strip().splitlines()), type(error).__name__)
