"""Running a source against its peer until enough posts have come."""

import asyncio
from collections.abc import Callable

from sentiment_assets.sources.live import Post, Source

DEADLINE_SECONDS = 30


class Waits:
    """A way to wait that notes the seconds and does not spend them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def listen(
    source: Source,
    enough: Callable[[list[Post]], bool],
    position: str | None = None,
    *,
    first_takes: float = 0.0,
) -> list[Post]:
    """The posts that a source hands on, until there are enough of them.

    Parameters
    ----------
    first_takes
        Seconds for which the source is kept waiting at the first post, as by a full disk.
    """
    posts: list[Post] = []

    async def run() -> None:
        done = asyncio.Event()

        async def put(post: Post) -> None:
            posts.append(post)
            if enough(posts):
                done.set()
            await asyncio.sleep(
                first_takes if len(posts) == 1 else 0
            )  # a source that never waits would keep the deadline from being noticed

        async with asyncio.timeout(DEADLINE_SECONDS):
            tasks = [
                asyncio.create_task(source.run(put, position)),
                asyncio.create_task(done.wait()),
            ]
            try:
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    return posts


def ids(posts: list[Post]) -> set[str]:
    """The distinct ids."""
    return {post.id for post in posts}
