"""A labelled file as if it were live: at its original speed, at a given one, once or again and again.

Belongs here: pacing. Does not belong here: the file's format (``sources.sentiment140``), the order at random
(``kafka.replay``).
"""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

from sentiment_assets.kafka.replay import created_at, shuffled, tweet_post
from sentiment_assets.sources.live import Counters, Post
from sentiment_assets.sources.sentiment140 import LabelledRow, iter_rows

_ENDLESS = 2**62


class FileReplay:
    """The rows of a file in Sentiment140's format.

    Parameters
    ----------
    speed
        Original pace by ``created_at``, so many times faster: 1 is the original, 60 a minute in a second.
        The rows come in the order of their time; those without a readable time come first.
    rate
        Posts a second instead; None with no ``speed`` either: as fast as they are taken.
    loop
        Begin again at the end.
    shuffle
        Random order, another at each turn (not with ``speed``): the published file is sorted by label.
    limit
        Rows to hand on, if once through the file gives so many; None: all. With ``loop``, the caller ends it.

    Only the order of the file is read as it goes. In another order the rows to hand on are held in memory.
    """

    name = "file"

    def __init__(
        self,
        path: Path,
        encoding: str,
        *,
        speed: float | None = None,
        rate: float | None = None,
        loop: bool = False,
        shuffle: bool = True,
        seed: int = 2000,
        limit: int | None = None,
    ) -> None:
        self.counters = Counters()
        self._path = path
        self._encoding = encoding
        self._speed = speed
        self._rate = rate
        self._loop = loop
        self._shuffle = shuffle
        self._seed = seed
        self._limit = None if loop else limit

    def position(self) -> str | None:
        """A file is replayed from its beginning."""
        return None

    async def run(self, put: Callable[[Post], Awaitable[None]], position: str | None) -> None:  # noqa: ARG002
        """Hand on the rows.

        Raises
        ------
        SourceError
            When the file cannot be read.
        """
        while True:
            # Reading and ordering a large file takes seconds, during which a stop must be noticed.
            rows = await asyncio.to_thread(self._rows)
            if self._speed is not None:
                await self._at_original_pace(rows, self._speed, put)
            else:
                await self._at_rate(rows, put)
            if not self._loop:
                return

    def _rows(self) -> Iterable[LabelledRow]:
        # Generators do their reading and ordering when the first row is asked for.
        rows = iter(self._ordered())
        return chain(list(islice(rows, 1)), rows)

    def _ordered(self) -> Iterable[LabelledRow]:
        rows = iter_rows(self._path, self._encoding)
        if self._speed is not None:
            if self._limit is not None:
                return heapq.nsmallest(self._limit, rows, key=_moment)
            return sorted(rows, key=_moment)
        if self._shuffle:
            limit = _ENDLESS if self._loop else self._limit
            return shuffled(rows, limit=limit, seed=self._seed, name=str(self._path), again=self._loop)
        return islice(rows, self._limit)

    async def _at_original_pace(
        self, rows: Iterable[LabelledRow], speed: float, put: Callable[[Post], Awaitable[None]]
    ) -> None:
        first: float | None = None
        started = time.monotonic()
        for row in rows:
            post = tweet_post(row)
            if post.created_at is not None:
                moment = datetime.fromisoformat(post.created_at).timestamp()
                first = moment if first is None else first
                await _until(started + (moment - first) / speed)
            self.counters.received += 1
            await put(post)

    async def _at_rate(self, rows: Iterable[LabelledRow], put: Callable[[Post], Awaitable[None]]) -> None:
        due = time.monotonic()
        for row in rows:
            if self._rate is not None:
                # What a stall has missed is not made up for: it would be a burst.
                due = max(due + 1 / self._rate, time.monotonic() - 0.05)
                await _until(due)
            self.counters.received += 1
            await put(tweet_post(row))


def _moment(row: LabelledRow) -> str:
    return created_at(row.date) or ""


async def _until(due: float) -> None:
    """Shorter waits than the clock of the event loop can keep are made up for by the next one."""
    wait = due - time.monotonic()
    if wait > 0.002:
        await asyncio.sleep(wait)
