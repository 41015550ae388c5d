"""What all live sources share: the post, how it is handed on, how an interrupted connection is tried again.

Belongs here: the one message schema, the shape of a source, the retry loop.
Does not belong here: a service's protocol (``x_api``, ``jetstream``), delivery to Kafka (``ingest``).
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_base

logger = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]

WORKED_SECONDS = 30.0
"""A connection that lasted so long has worked, whatever came: one byte and an end must not undo a pause."""


class Post(NamedTuple):
    """One post in the message schema of the topic; its fields are the keys of the JSON object.

    Attributes
    ----------
    created_at
        ISO 8601, as the service gives it.
    lang
        BCP 47 tag.
    source
        Which service it is from.
    """

    id: str
    text: str
    created_at: str | None
    author: str | None
    author_id: str | None
    lang: str | None
    source: str

    def key(self) -> bytes:
        """The Kafka key: the id."""
        return self.id.encode("utf-8", "replace")

    def value(self) -> bytes:
        """The Kafka value: UTF-8 JSON; a lone surrogate, which UTF-8 cannot hold, becomes U+FFFD."""
        text = json.dumps(self._asdict(), ensure_ascii=False)
        try:
            return text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


@dataclass
class Counters:
    """What a source has seen.

    Attributes
    ----------
    received
        Posts that were handed on, duplicates included.
    kept
        Of these, posts that were put on disk, which leaves duplicates out; the ingest counts them.
    skipped
        Messages of the service that are no post to score: another language, no text, a deletion.
    malformed
        Frames that could not be read.
    reconnects
        Connections that were tried again.
    """

    received: int = 0
    kept: int = 0
    skipped: int = 0
    malformed: int = 0
    reconnects: int = 0


class Source(Protocol):
    """A service or file that posts come from."""

    name: str
    counters: Counters

    async def run(self, put: Callable[[Post], Awaitable[None]], position: str | None) -> None:
        """Hand on posts until cancelled, or until there are no more.

        Parameters
        ----------
        put
            Takes one post; waits when the posts cannot be kept, so that the service is read no faster.
        position
            What :meth:`position` returned when the last posts were kept; None at the first start.
        """

    def position(self) -> str | None:
        """Where to go on after all posts handed on so far; None where a source has no such thing."""


class Interrupted(Exception):  # noqa: N818  (not an error of ours: connections end)
    """A connection that could not be made or has ended, and may be tried again.

    Parameters
    ----------
    kind
        What kind of fault, since services ask for another pause after each.
    established
        Whether the connection had worked before it ended: it brought the source forward or lasted WORKED_SECONDS.
    reset_at
        Seconds since the epoch at which the service will answer again, where it says so.
    """

    def __init__(
        self, kind: str, reason: str, *, established: bool = False, reset_at: float | None = None
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.established = established
        self.reset_at = reset_at


class Pause(wait_base):
    """Seconds before the next try, from the kind of fault and how often it has come in a row.

    Parameters
    ----------
    seconds
        Function of the fault and its number in the row: 0 for the end of a connection that had worked,
        1 for the first failure.
    """

    def __init__(self, seconds: Callable[[Interrupted, int], float]) -> None:
        self._seconds = seconds
        self._kind = ""
        self._row = 0

    def __call__(self, retry_state: RetryCallState) -> float:
        fault = retry_state.outcome.exception() if retry_state.outcome else None
        if not isinstance(fault, Interrupted):
            return 0.0
        if fault.established:
            self._row = 0
        elif fault.kind != self._kind:
            self._row = 1
        else:
            self._row += 1
        self._kind = fault.kind
        return self._seconds(fault, self._row)


def persistent(
    service: str,
    pause: Callable[[Interrupted, int], float],
    counters: Counters,
    sleep: Sleep = asyncio.sleep,
) -> AsyncRetrying:
    """Try again after each :class:`Interrupted`, without end; every other exception passes.

    Parameters
    ----------
    service
        Name in the log.
    pause
        See :class:`Pause`.
    sleep
        How to wait.
    """

    def note(state: RetryCallState) -> None:
        counters.reconnects += 1
        fault = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0.0
        # One warning for what lasts; the end of a connection that had worked is everyday.
        level = logging.WARNING if seconds >= 1 else logging.INFO
        logger.log(level, "%s: %s; trying again in %.3g s.", service, fault, seconds)

    return AsyncRetrying(
        retry=retry_if_exception_type(Interrupted), wait=Pause(pause), before_sleep=note, sleep=sleep
    )
