"""A live source beside the main job goes on after a full disk."""

import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sentiment_assets.failures import SetupError, disk_is_full
from sentiment_assets.ingest.spool import Spool
from sentiment_assets.local import live
from sentiment_assets.local.live import LiveIngest
from sentiment_assets.settings import Settings
from sentiment_assets_tests.peers.jetstream import JetstreamPeer, post_event

POSTS = 400


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """Writes of this process fail there, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def until(done: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if done():
            return
        pause.wait(0.05)
    raise AssertionError("not in time")


def test_the_ingest_goes_on_behind_what_was_kept_when_there_is_room_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "_FULL_SECONDS", 0.2)
    file = settings.spool / "jetstream.sqlite"
    Spool(file, 10**9).close()
    stop = threading.Event()
    with JetstreamPeer([post_event(number) for number in range(POSTS)]) as peer:
        configured = settings.model_copy(update={"jetstream_urls": peer.url})
        ingest = LiveIngest(configured, "jetstream", POSTS, stop)
        try:
            with no_file_grows_beyond(32_768):
                ingest.start()
                until(lambda: "cannot be used" in caplog.text)
                ingest.check()
            until(lambda: Spool(file, 10**9).count == POSTS)
        finally:
            stop.set()
            ingest.join(30)
    ingest.check()
    keys = [row.key for row in Spool(file, 10**9).after(0, 10**6, 10**9)]
    assert len(set(keys)) == len(keys) == POSTS


def test_a_full_disk_is_known_behind_an_error_of_ours_and_a_wrong_file_is_none() -> None:
    def failure(statement: str) -> SetupError:
        database = sqlite3.connect(":memory:")
        database.execute("PRAGMA max_page_count = 1")
        try:
            database.execute(statement)
        except sqlite3.Error as error:
            ours = SetupError("The spool cannot be used.", "Free some disk.")
            ours.__cause__ = error
            return ours
        raise AssertionError

    assert disk_is_full(failure("CREATE TABLE posts (text)"))
    assert not disk_is_full(failure("SELECT * FROM nowhere"))
