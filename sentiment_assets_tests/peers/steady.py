"""A live source of the tests: made-up posts without end."""

import asyncio
from collections.abc import Awaitable, Callable

from sentiment_assets.sources.live import Counters, Post


class Steady:
    """Gives a post, and pauses; its position is the number of posts that were taken.

    Parameters
    ----------
    seconds
        Between two posts; 0: as fast as they are taken.
    text
        Of each post.
    """

    name = "steady"

    def __init__(self, seconds: float = 0.0, text: str = "made up") -> None:
        self.counters = Counters()
        self._seconds = seconds
        self._text = text

    def position(self) -> str | None:
        """How many were taken."""
        return str(self.counters.received)

    async def run(self, put: Callable[[Post], Awaitable[None]], position: str | None) -> None:  # noqa: ARG002
        """Without end."""
        while True:
            await put(Post(str(self.counters.received), self._text, None, None, None, "en", "test"))
            self.counters.received += 1
            await asyncio.sleep(self._seconds)
