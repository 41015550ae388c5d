"""Bluesky's Jetstream: all public posts as JSON over a websocket, without a key.

Belongs here: that protocol: hosts, cursor, frames. Does not belong here: delivery to Kafka (``ingest``).

A cursor is a time in microseconds and counts on every host, roughly; so each connection begins a few seconds
before the last post that was kept, and the duplicates are removed by id, as the project's README advises
(https://github.com/bluesky-social/jetstream).
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidURI, WebSocketException

from sentiment_assets.failures import SourceError
from sentiment_assets.sources.live import WORKED_SECONDS, Counters, Interrupted, Post, Sleep, persistent

logger = logging.getLogger(__name__)

PUBLIC_URLS = (
    "wss://jetstream2.us-east.bsky.network/subscribe",
    "wss://jetstream1.us-east.bsky.network/subscribe",
    "wss://jetstream2.us-west.bsky.network/subscribe",
    "wss://jetstream1.us-west.bsky.network/subscribe",
)
"""The instances that Bluesky runs for everyone."""

_COLLECTION = "app.bsky.feed.post"
_SOURCE = "bluesky"
_REWIND_MICROSECONDS = 5_000_000
# The network writes dozens of posts a second: so long a silence is a dead connection.
_SILENCE_SECONDS = 60.0
_MOST_FRAME_BYTES = 2**20
_LONGEST_PAUSE_SECONDS = 60.0
# The host's answer to our goodbye stands behind frames that nobody reads any more.
_CLOSE_SECONDS = 0.5


class Jetstream:
    """Public posts of Bluesky in some languages.

    Parameters
    ----------
    urls
        Addresses of ``/subscribe`` endpoints; after each interruption the next one is taken.
    languages
        BCP 47 tags such as ``en``, of which the primary part counts: posts in ``pt-PT`` come for ``pt-BR``. A post with
        none of them is skipped. Empty: all posts.
    sleep
        How to wait before a reconnect.
    """

    name = "jetstream"

    def __init__(
        self, urls: Sequence[str], languages: Sequence[str] = (), *, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.counters = Counters()
        self._urls = urls
        self._languages = frozenset(_primary(language) for language in languages)
        self._sleep = sleep
        self._cursor: int | None = None
        self._next_url = 0

    def position(self) -> str | None:
        """``time_us`` of the last frame that was dealt with."""
        return None if self._cursor is None else str(self._cursor)

    async def run(self, put: Callable[[Post], Awaitable[None]], position: str | None) -> None:
        """Read until cancelled.

        Raises
        ------
        SourceError
            When an address is no websocket address.
        """
        if position is not None:
            self._cursor = int(position)
        async for attempt in persistent("Jetstream", _pause_seconds, self.counters, self._sleep):
            with attempt:
                await self._read(put)

    async def _read(self, put: Callable[[Post], Awaitable[None]]) -> None:
        """One connection, until it ends with :class:`Interrupted`."""
        url = self._urls[self._next_url % len(self._urls)]
        self._next_url += 1
        begun: float | None = None
        since = self._cursor
        try:
            async with await self._connected(url) as socket:
                begun = time.monotonic()
                while True:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        frame = await socket.recv()
                    await self._take(frame, put)
                    since = self._cursor if since is None else since
        except TimeoutError:
            reason = f"{url} does not answer or is silent"
        except (WebSocketException, OSError) as error:
            reason = f"{url}: {str(error)[:200] or type(error).__name__}"
        lasted = 0.0 if begun is None else time.monotonic() - begun
        # More than each connection gives again: a host that sends a frame and closes has not worked.
        forward = (self._cursor or 0) - (since or 0) > _REWIND_MICROSECONDS
        raise Interrupted("network", reason, established=forward or lasted >= WORKED_SECONDS)

    async def _connected(self, url: str) -> ClientConnection:
        try:
            return await connect(
                self._address(url), max_size=_MOST_FRAME_BYTES, open_timeout=10, close_timeout=_CLOSE_SECONDS
            )
        except (InvalidURI, ValueError):
            # ValueError: a port out of range, half an IPv6 address, a host name with an empty part.
            raise SourceError(
                f"{url} is not a websocket address.", "Set SENTIMENT_JETSTREAM_URLS to wss:// addresses."
            ) from None

    def _address(self, url: str) -> str:
        query = {"wantedCollections": _COLLECTION, "maxMessageSizeBytes": str(_MOST_FRAME_BYTES)}
        if self._cursor is not None:
            query["cursor"] = str(max(0, self._cursor - _REWIND_MICROSECONDS))
        return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"

    async def _take(self, frame: str | bytes, put: Callable[[Post], Awaitable[None]]) -> None:
        try:
            event = json.loads(frame)
            moment = event["time_us"]
            post = self._post_of(event)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.counters.malformed += 1
            return
        if post is None:
            self.counters.skipped += 1
        else:
            self.counters.received += 1
            await put(post)
        # Only now: the position must never be ahead of what was handed on.
        if isinstance(moment, int) and not isinstance(moment, bool):
            self._cursor = max(moment, self._cursor or 0)

    def _post_of(self, event: dict[str, Any]) -> Post | None:
        """The post of an event; None for other events, languages and posts without text."""
        if event["kind"] != "commit":
            return None
        commit = event["commit"]
        if commit["operation"] != "create" or commit["collection"] != _COLLECTION:
            return None
        record = commit["record"]
        text = record["text"]
        languages = [tag for tag in record.get("langs") or [] if isinstance(tag, str)]
        if not isinstance(text, str) or not text.strip() or not self._wanted(languages):
            return None
        account = str(event["did"])
        created_at = record.get("createdAt")
        return Post(
            f"at://{account}/{_COLLECTION}/{commit['rkey']}",
            text,
            created_at if isinstance(created_at, str) else None,
            # The stream names accounts by their permanent id only.
            account,
            account,
            languages[0] if languages else None,
            _SOURCE,
        )

    def _wanted(self, languages: list[str]) -> bool:
        if not self._languages:
            return True
        return any(_primary(tag) in self._languages for tag in languages)


def _primary(tag: str) -> str:
    return tag.split("-")[0].lower()


def _pause_seconds(_fault: Interrupted, row: int) -> float:
    """Almost at once for a connection that had worked, then exponential with jitter, up to a minute."""
    longest = min(_LONGEST_PAUSE_SECONDS, 0.25 * 2.0 ** min(row, 10))
    # Spread, so that a host that comes back is not met by all its clients at once.
    return random.uniform(longest / 2, longest)  # noqa: S311
