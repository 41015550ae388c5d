"""What every sink can do, and what can go wrong with it.

Belongs here: the shape of a sink. Does not belong here: a database (``postgres``, ``mongodb``).
"""

from typing import Protocol

from sentiment_assets.failures import SentimentError
from sentiment_assets.sinks.changes import Batch, Position


class SinkError(SentimentError):
    """A sink refuses: access, its schema, a second follower."""


class SinkAwayError(Exception):
    """The database does not answer, or ended the connection; it may be tried again."""


class Sink(Protocol):
    """One database that follows the table.

    Attributes
    ----------
    name
        As in commands and asset keys.
    where
        Host and database for a person; never a password.
    """

    name: str
    where: str

    def open(self, *, reading: bool = False) -> None:
        """Connect, and create or migrate what the sink needs.

        Parameters
        ----------
        reading
            Only connect: nothing is created, and a follower at work is not disturbed.

        Raises
        ------
        SinkAwayError
            When the database does not answer.
        SinkError
            When it refuses.
        """

    def position(self) -> Position | None:
        """How far it is; None when it holds nothing yet."""

    def write(self, batch: Batch) -> None:
        """Insert, replace and delete what the batch says, and move the position."""

    def clear(self) -> None:
        """Forget all rows and the position."""

    def count(self) -> int:
        """Rows that it holds."""

    def close(self) -> None:
        """End the connection; may be called at any time."""
