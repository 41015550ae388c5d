"""The filtered stream as a source: connect, read, reconnect, and have the gaps filled.

Belongs here: one connection after the other. Does not belong here: HTTP (``client``), rules, recent search.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from pydantic import SecretStr

from sentiment_assets.sources.live import WORKED_SECONDS, Counters, Interrupted, Post, Sleep, persistent
from sentiment_assets.sources.x_api.client import NETWORK, SILENCE_SECONDS, XClient, parsed, pause_seconds
from sentiment_assets.sources.x_api.posts import FIELDS, post_of, users_of
from sentiment_assets.sources.x_api.recent import SETTLE_SECONDS, Gap, RecentSearch
from sentiment_assets.sources.x_api.rules import synchronise

logger = logging.getLogger(__name__)

PATH = "/2/tweets/search/stream"
_MOST_GAPS = 50
_WAITED_SECONDS = 0.1


class XStream:
    """Posts that match rules, from X's filtered stream.

    Parameters
    ----------
    base_url
        Address of the API.
    token
        Bearer token of an app.
    rules
        Wanted rules; empty: those that X has already.
    sleep
        How to wait before a reconnect.
    settle_seconds
        See :class:`RecentSearch`.
    """

    name = "x"

    def __init__(
        self,
        base_url: str,
        token: SecretStr,
        rules: list[str],
        *,
        sleep: Sleep = asyncio.sleep,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self.counters = Counters()
        self._base_url = base_url
        self._token = token
        self._wanted = rules
        self._sleep = sleep
        self._settle_seconds = settle_seconds
        self._alive_at: float | None = None
        self._gaps: list[Gap] = []
        self._gap_came = asyncio.Event()

    def position(self) -> str | None:
        """JSON: when the stream was last alive, and the gaps that are not filled yet."""
        if self._alive_at is None and not self._gaps:
            return None
        return json.dumps({"alive_at": self._alive_at, "gaps": self._gaps})

    async def run(self, put: Callable[[Post], Awaitable[None]], position: str | None) -> None:
        """Read until cancelled.

        Raises
        ------
        SourceError
            When X refuses the token, the plan or a rule.
        """
        self._restore(position)
        async with XClient(self._base_url, self._token) as client:
            async for attempt in persistent("X", pause_seconds, self.counters, self._sleep):
                with attempt:
                    rules = await synchronise(client, self._wanted)
            search = RecentSearch(
                client, rules, self.counters, sleep=self._sleep, settle_seconds=self._settle_seconds
            )
            # Not a task group: it would wrap the one error that matters into a group.
            tasks = [
                asyncio.create_task(self._read_for_ever(client, put)),
                asyncio.create_task(self._fill_gaps(search, put)),
            ]
            try:
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_for_ever(self, client: XClient, put: Callable[[Post], Awaitable[None]]) -> None:
        async for attempt in persistent("X", pause_seconds, self.counters, self._sleep):
            with attempt:
                await self._read(client, put)

    async def _read(self, client: XClient, put: Callable[[Post], Awaitable[None]]) -> None:
        """One connection, until it ends with :class:`Interrupted`."""
        begun: float | None = None
        gave_a_post = False
        # Since when we read more slowly than X sends, as far as that may still matter, and when we last had to wait.
        behind: float | None = None
        waited_at = 0.0
        try:
            async with aclosing(client.lines(PATH, dict(FIELDS))) as lines:
                async for line in lines:
                    if begun is None:
                        begun = time.monotonic()
                        self._note_gap(self._alive_at)
                    asked = time.time()
                    if line and await self._take(line, put):
                        gave_a_post = True
                    now = time.time()
                    if now - asked >= _WAITED_SECONDS:
                        behind, waited_at = behind or asked, now
                    elif now - waited_at > SILENCE_SECONDS:
                        behind = None
                    # X drops who reads slowly: what it could not send is to be fetched from there on.
                    self._alive_at = behind or now
        except Interrupted as end:
            lasted = 0.0 if begun is None else time.monotonic() - begun
            end.established = gave_a_post or lasted >= WORKED_SECONDS
            raise

    async def _take(self, line: bytes, put: Callable[[Post], Awaitable[None]]) -> bool:
        """Deal with one line; true when it was a post."""
        message = parsed(line)
        if message is None:
            self.counters.malformed += 1
            return False
        if "data" not in message:
            if "errors" in message:
                # X closes the connection after such a message; the reason matters to whoever reads the log.
                raise Interrupted(NETWORK, _disconnected(message))
            self.counters.skipped += 1
            return False
        post = post_of(message["data"], users_of(message))
        if post is None:
            self.counters.malformed += 1
            return False
        self.counters.received += 1
        await put(post)
        return True

    def _note_gap(self, start: float | None) -> None:
        if start is None:
            return
        self._gaps.append(Gap(start, time.time()))
        if len(self._gaps) > _MOST_GAPS:
            # Joined, so that a position stays small; what is fetched twice is removed by id.
            self._gaps[:2] = [Gap(self._gaps[0].start, self._gaps[1].end)]
        self._gap_came.set()

    async def _fill_gaps(self, search: RecentSearch, put: Callable[[Post], Awaitable[None]]) -> None:
        async def count(post: Post) -> None:
            self.counters.received += 1
            await put(post)

        while True:
            while self._gaps:
                gap = self._gaps[0]
                if not await search.fill(gap, count):
                    break
                # A gap that was joined with the next one meanwhile stays.
                if self._gaps[0] == gap:
                    del self._gaps[0]
            self._gap_came.clear()
            await self._gap_came.wait()

    def _restore(self, position: str | None) -> None:
        if position is None:
            return
        kept = json.loads(position)
        self._alive_at = kept["alive_at"]
        self._gaps = [Gap(*gap) for gap in kept["gaps"]]


def _disconnected(message: dict[str, object]) -> str:
    errors = message["errors"]
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    said = first.get("detail") or first.get("title") or "no reason given"
    return f"X ended the connection ({str(said)[:200]})"
