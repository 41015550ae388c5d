"""Recent search: the posts of the minutes in which the stream was down.

Belongs here: gaps and how they are filled. Does not belong here: noticing them (``stream``).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NamedTuple

from sentiment_assets.failures import SourceError
from sentiment_assets.sources.live import Counters, Interrupted, Post, Sleep, persistent
from sentiment_assets.sources.x_api.client import PlanError, RequestError, XClient, pause_seconds
from sentiment_assets.sources.x_api.posts import FIELDS, posts_of

logger = logging.getLogger(__name__)

PATH = "/2/tweets/search/recent"
OVERLAP_SECONDS = 10.0
"""A gap begins so much earlier than the last sign of life: clocks differ, and duplicates are removed."""
SETTLE_SECONDS = 30.0
"""X refuses an end that is less than 10 s ago by its clock, and the index trails the stream a little."""

# For a clock that is further ahead of X's than the seconds above allow.
_AGAIN_SECONDS = 120.0
_DAYS_SECONDS = 7 * 86_400 - 60.0
# A project has a monthly quota of posts: an outage of a busy rule must not use it up unasked.
_MOST_POSTS = 20_000


class Gap(NamedTuple):
    """Seconds since the epoch between which the stream was down."""

    start: float
    end: float


class RecentSearch:
    """Fills gaps, one at a time, while the plan allows it.

    Parameters
    ----------
    rules
        The rules in force; each is a query.
    settle_seconds
        Age of a gap's end before it is asked for.
    """

    def __init__(
        self,
        client: XClient,
        rules: list[str],
        counters: Counters,
        *,
        sleep: Sleep = asyncio.sleep,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._client = client
        self._rules = rules
        self._counters = counters
        self._sleep = sleep
        self._settle_seconds = settle_seconds
        self._allowed = True

    async def fill(self, gap: Gap, put: Callable[[Post], Awaitable[None]]) -> bool:
        """Hand on the posts of a gap; without the right plan say so once and go on.

        Returns
        -------
        bool
            Whether the gap is done with. Otherwise X refuses for a reason that may pass, and it is to be kept.
        """
        await asyncio.sleep(max(0.0, gap.end + self._settle_seconds - time.time()))
        for rule in self._rules:
            if not self._allowed:
                return True
            try:
                try:
                    await self._fill(rule, gap, put)
                except RequestError:
                    await self._sleep(_AGAIN_SECONDS)
                    await self._fill(rule, gap, put)
            except PlanError as error:
                self._allowed = False
                logger.warning(
                    "%s Posts of the time without a connection are lost: this plan has no recent search.",
                    error.what,
                )
            except RequestError as error:
                logger.warning("The rule %r cannot be used with recent search. %s", rule, error.what)
            except SourceError as error:
                logger.warning(
                    "%s Posts of the time without a connection are asked for again after the next one, or at "
                    "the next start.",
                    error,
                )
                return False
        return True

    async def _fill(self, rule: str, gap: Gap, put: Callable[[Post], Awaitable[None]]) -> None:
        now = time.time()
        start = max(gap.start - OVERLAP_SECONDS, now - _DAYS_SECONDS)
        params = FIELDS | {
            "query": rule,
            "start_time": _iso(start),
            "end_time": _iso(max(gap.end, start + 1.0) + 1.0),
            "max_results": "100",
        }
        found = 0
        while True:
            async for attempt in persistent("X recent search", _pause, Counters(), self._sleep):
                with attempt:
                    body = await self._client.get(PATH, params)
            for post in posts_of(body):
                if post is None:
                    self._counters.skipped += 1
                    continue
                found += 1
                await put(post)
            token = (body.get("meta") or {}).get("next_token")
            if not token:
                return
            if found >= _MOST_POSTS:
                logger.warning(
                    "The gap holds more than %s posts of the rule %r: the older are lost.", found, rule
                )
                return
            params = params | {"next_token": str(token)}


def _pause(fault: Interrupted, row: int) -> float:
    return pause_seconds(fault, row)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
