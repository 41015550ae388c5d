"""A run of the ingest without a broker: what comes is kept, and a full disk share makes the source wait."""

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sentiment_assets.failures import SetupError, SourceError
from sentiment_assets.ingest import ingest
from sentiment_assets.ingest.file import FileReplay
from sentiment_assets.ingest.spool import Spool
from sentiment_assets.kafka.replay import created_at
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.settings import Settings
from sentiment_assets.sources.jetstream import Jetstream
from sentiment_assets.sources.live import Post
from sentiment_assets_tests.peers.jetstream import JetstreamPeer, post_event
from sentiment_assets_tests.peers.listening import listen
from sentiment_assets_tests.peers.steady import Steady


class Refused(Steady):
    """A source that ends with an error after some posts."""

    async def run(self, put: Callable[[Post], Awaitable[None]], position: str | None) -> None:  # noqa: ARG002
        await put(Post("1", "kept", None, None, None, None, "t"))
        raise SourceError("The service refuses.", "Pay.")


def kept(settings: Settings, name: str) -> list[str]:
    """Ids in the spool of a source."""
    spool = Spool(settings.spool / f"{name}.sqlite", 10**9)
    return [row.key.decode() for row in spool.after(0, 10**6, 10**9)]


def test_without_a_broker_posts_wait_on_disk_and_the_next_run_goes_on_behind_them(settings: Settings) -> None:
    events = [post_event(number) for number in range(400)]
    with JetstreamPeer(events) as peer:
        first = ingest(settings, Jetstream([peer.url]), threading.Event(), limit=150)
        assert (first.received, first.delivered, first.spooled) == (150, 0, 150)
        assert first.state == "the broker is away"
        second = ingest(settings, Jetstream([peer.url]), threading.Event(), limit=250)
    assert second.duplicates > 0, "the overlap was read again"
    assert second.spooled == first.spooled + 250, "what came before does not count"
    found = kept(settings, "jetstream")
    assert len(found) == len(set(found)) == second.spooled


def test_a_full_spool_makes_the_source_wait_and_loses_nothing(settings: Settings) -> None:
    stop = threading.Event()
    small = settings.model_copy(update={"spool_megabytes": 3})
    source = Steady(0, "x" * 1000)
    results = []
    worker = threading.Thread(target=lambda: results.append(ingest(small, source, stop)), daemon=True)
    worker.start()
    waiting = threading.Event()
    seen = -1
    while source.counters.received != seen or seen < 2_000:
        seen = source.counters.received
        assert not waiting.wait(0.5)
        assert seen < 20_000, "the source was not kept waiting"
    stop.set()
    worker.join(timeout=30)
    (result,) = results
    assert result.spooled < 5_000
    assert kept(settings, "steady") == [str(number) for number in range(result.spooled)]
    assert result.spooled >= result.received


def test_a_full_spool_makes_a_slow_source_wait_too(settings: Settings) -> None:
    stop = threading.Event()
    source = Steady(0.001, "x" * 10_000)
    small = settings.model_copy(update={"spool_megabytes": 1})
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(ingest, small, source, stop)
        waiting = threading.Event()
        seen = -1
        try:
            while source.counters.received != seen or seen < 50:
                seen = source.counters.received
                assert not waiting.wait(0.5)
                assert seen < 1_000, "the source was not kept waiting"
        finally:
            stop.set()
        result = under_way.result(timeout=30)
    assert result.spooled * 10_000 < 3_000_000
    assert kept(settings, "steady") == [str(number) for number in range(result.spooled)]


def test_posts_that_could_not_be_kept_are_not_passed_over(settings: Settings) -> None:
    file = settings.spool / "steady.sqlite"
    Spool(file, 10**9).close()
    with closing(sqlite3.connect(file)) as spool, spool:
        # As on a disk that is full from there on.
        spool.execute(
            "CREATE TRIGGER disk_is_full BEFORE INSERT ON waiting WHEN NEW.number > 1500 "
            "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    with pytest.raises(SetupError, match="disk is full"):
        ingest(settings, Steady(0), threading.Event())
    found = kept(settings, "steady")
    assert found == [str(number) for number in range(len(found))]
    position = Spool(file, 10**9).position()
    assert position is not None
    assert int(position) <= len(found), "the next start goes on behind what was kept"


def test_a_source_that_ends_with_an_error_keeps_what_came_before(settings: Settings) -> None:
    with pytest.raises(SourceError, match="refuses"):
        ingest(settings, Refused(), threading.Event())
    assert kept(settings, "steady") == ["1"]


def test_two_ingests_of_one_source_exclude_each_other(settings: Settings) -> None:
    with only_one(settings, "ingest steady"), pytest.raises(SetupError, match="ingest steady"):
        ingest(settings, Steady(0), threading.Event(), limit=1)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Four tweets, not in the order of their time; one has no readable date."""
    path = tmp_path / "labelled.csv"
    dates = [
        "Mon Apr 06 22:20:00 PDT 2009",
        "Mon Apr 06 22:19:58 PDT 2009",
        "Mon Apr 06 22:19:59 PDT 2009",
        "?",
    ]
    path.write_text(
        "".join(f'"0","{n}","{date}","NO_QUERY","user","text {n}"\n' for n, date in enumerate(dates))
    )
    return path


def test_a_file_at_its_original_speed_comes_in_the_order_of_time(labelled: Path) -> None:
    posts = listen(FileReplay(labelled, "ISO-8859-1", speed=100), lambda posts: len(posts) == 4)
    assert [post.id for post in posts] == ["3", "1", "2", "0"]
    assert posts[1].created_at == created_at("Mon Apr 06 22:19:58 PDT 2009")


def rows_of(labelled: Path, **options: Any) -> list[str]:
    """Ids of a replay that ends by itself."""
    found: list[str] = []

    async def put(post: Post) -> None:
        found.append(post.id)

    asyncio.run(FileReplay(labelled, "ISO-8859-1", **options).run(put, None))
    return found


def test_a_limit_takes_so_many_rows_and_never_begins_again(labelled: Path) -> None:
    assert rows_of(labelled, speed=1000, limit=3) == ["3", "1", "2"], "the first in time"
    assert rows_of(labelled, shuffle=False, limit=3) == ["0", "1", "2"]
    assert len(set(rows_of(labelled, limit=3))) == 3
    assert sorted(rows_of(labelled, limit=9)) == ["0", "1", "2", "3"]


def test_a_loop_begins_again_at_the_end(labelled: Path) -> None:
    posts = listen(
        FileReplay(labelled, "ISO-8859-1", loop=True, shuffle=False), lambda posts: len(posts) >= 10
    )
    assert [post.id for post in posts[:9]] == ["0", "1", "2", "3", "0", "1", "2", "3", "0"]
    shuffled = listen(FileReplay(labelled, "ISO-8859-1", loop=True), lambda posts: len(posts) >= 8)
    assert sorted(post.id for post in shuffled[:4]) == sorted(post.id for post in shuffled[4:8])


def test_a_file_once_ends_by_itself(settings: Settings, labelled: Path) -> None:
    result = ingest(
        settings, FileReplay(labelled, "ISO-8859-1", rate=1000), threading.Event(), distinct=False
    )
    assert (result.received, result.spooled) == (4, 4)
