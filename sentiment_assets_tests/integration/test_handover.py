"""The next stream prepares itself while the old one writes, and goes on only where that is wanted."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession

from sentiment_assets.failures import StreamError
from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.exclusive import exclude_streams, lock_file
from sentiment_assets.streaming.handover import StoodDownError
from sentiment_assets.streaming.heartbeat import (
    Heartbeat,
    Phase,
    of_this_process,
    read_heartbeat,
    read_standby,
    request_stop,
    write_heartbeat,
)
from sentiment_assets.streaming.progress import Progress
from sentiment_assets.streaming.pulse import Pulse
from sentiment_assets.streaming.status import read_status
from sentiment_assets_tests.integration.stream_helpers import (
    drain,
    save_tiny_model,
    send,
    tweet,
)

pytestmark = [pytest.mark.spark, pytest.mark.broker]


class Before:
    """The stream before, as its successor sees it: a lock that another process holds, and a heartbeat."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held = contextlib.ExitStack()
        self.beat = of_this_process(Phase.RUNNING, run_id="before", lease=1, ready=True)

    def __enter__(self) -> "Before":
        self._held.enter_context(exclude_streams(self._settings))
        write_heartbeat(self._settings, self.beat)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._held.close()

    def ends_with(self, last: Heartbeat) -> None:
        """Leave a last word and give the lock back."""
        write_heartbeat(self._settings, last)
        self._held.close()

    @property
    def killed(self) -> Heartbeat:
        """What a SIGKILL leaves: a running stream whose process is gone."""
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        return replace(self.beat, pid=child.pid)


def when_standing_by(act: Callable[[], object]) -> Callable[[Progress], None]:
    done: list[object] = []

    def on_progress(progress: Progress) -> None:
        if progress.phase is Phase.STANDBY and not done:
            done.append(True)
            act()

    return on_progress


def stopped(before: Before, **fields: object) -> Heartbeat:
    return replace(before.beat, phase=Phase.STOPPED, ready=False, detail="interrupted", **fields)


@pytest.mark.parametrize("killed", [False, True])
def test_a_successor_waits_for_the_lock_and_scores_what_came_meanwhile(
    spark: SparkSession, live: Settings, killed: bool
) -> None:
    scored = read_status(live)["predictions"]
    with Before(live) as before:

        def meanwhile() -> None:
            standby, still = read_standby(live), read_heartbeat(live)
            assert standby is not None
            assert still is not None
            assert (standby.phase, standby.run_id, still.run_id) == (Phase.STANDBY, "next", "before")
            send(live, [tweet(1), tweet(2)])
            before.ends_with(before.killed if killed else stopped(before, hands_over=True))

        result = drain(
            spark, live, succeeds="before", run_id="next", lease=2, on_progress=when_standing_by(meanwhile)
        )
    assert (result.reason, result.rows) == ("drained", 2)
    status = read_status(live)
    assert (status["predictions"], status["gaps"], status["duplicates"]) == (scored + 2, 0, 0)
    assert read_standby(live) is None


def test_a_successor_stands_down_when_the_stream_before_was_interrupted(
    spark: SparkSession, live: Settings
) -> None:
    with Before(live) as before:
        end = when_standing_by(lambda: before.ends_with(stopped(before)))
        with pytest.raises(StoodDownError, match="interrupted"):
            drain(spark, live, succeeds="before", run_id="next", lease=2, on_progress=end)
    assert read_standby(live) is None
    with exclude_streams(live):
        pass


def test_a_successor_stands_down_when_the_stream_before_was_stopped_while_it_started(
    spark: SparkSession, live: Settings
) -> None:
    # Its last word was there before the successor could look for the first time.
    write_heartbeat(live, stopped(Before(live)))
    send(live, [tweet(3)])
    with pytest.raises(StoodDownError, match="interrupted"):
        drain(spark, live, succeeds="before", run_id="next", lease=2)
    assert drain(spark, live).rows == 1


def test_a_last_word_does_not_overwrite_the_signs_of_life_of_the_next_stream(
    spark: SparkSession, live: Settings
) -> None:
    pulse = Pulse(spark, live, "before", 1, "any", lambda _progress: None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        me = of_this_process(Phase.RUNNING, run_id="next", lease=2)
        following = replace(me, pid=other.pid, create_time=psutil.Process(other.pid).create_time())
        with pulse.last_word():
            pulse.beat()
            write_heartbeat(live, following)
        found = read_heartbeat(live)
        assert found is not None
        assert (found.run_id, found.phase) == ("next", Phase.RUNNING)
        other.communicate(b"\n")
    pulse = Pulse(spark, live, "after", 3, "any", lambda _progress: None)
    with pulse.last_word():
        pass
    found = read_heartbeat(live)
    assert found is not None
    assert (found.run_id, found.phase) == ("after", Phase.STOPPED)


def test_a_reset_waits_for_the_jvm_of_a_dead_stream(live: Settings) -> None:
    holder = """import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
input()"""
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock_file(live))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as jvm:
        assert jvm.stdout is not None
        assert jvm.stdout.readline() == b"held\n"
        write_heartbeat(live, of_this_process(Phase.RUNNING))
        with pytest.raises(StreamError, match="Another stream writes"), exclude_streams(live):
            pass
        write_heartbeat(live, Before(live).killed)
        threading.Timer(1.0, jvm.communicate, [b"\n"]).start()
        with exclude_streams(live):
            assert jvm.poll() is not None or jvm.wait(5) == 0


def test_a_request_to_stop_ends_one_that_stands_by_too(spark: SparkSession, live: Settings) -> None:
    with Before(live):
        ask = when_standing_by(lambda: request_stop(live, "the main job ends"))
        with pytest.raises(StoodDownError, match="the main job ends"):
            drain(spark, live, succeeds="before", run_id="next", lease=2, on_progress=ask)
    (live.run / "stream.stop").unlink()


def test_one_that_stands_by_takes_the_newest_model_over(spark: SparkSession, live: Settings) -> None:
    with Before(live) as before:

        def meanwhile() -> None:
            save_tiny_model(spark, ModelStore(live.models))

        def on_progress(progress: Progress) -> None:
            promote(progress)
            if progress.phase is Phase.STANDBY and progress.model_version == ModelStore(live.models).chosen():
                before.ends_with(stopped(before, hands_over=True))

        promote = when_standing_by(meanwhile)
        result = drain(spark, live, succeeds="before", run_id="next", lease=2, on_progress=on_progress)
    assert result.model_version == ModelStore(live.models).chosen()


@pytest.mark.parametrize("due", ["lease time is over", "newer model"])
def test_a_lease_that_is_due_ends_as_soon_as_its_successor_is_ready(
    spark: SparkSession, live: Settings, due: str, tmp_path: Path
) -> None:
    store = ModelStore(live.models)
    limits = {"lease_seconds": 1 if due == "lease time is over" else 100}
    log = live.table("predictions") / "_delta_log"
    before = set(log.glob("*.crc"))
    preparing: list[Heartbeat] = []

    def on_progress(progress: Progress) -> None:
        if progress.ready and not preparing:
            assert set(log.glob("*.crc")) == before, "Delta's checksum files cost 0.04 s a commit"
            version = store.chosen() if due == "lease time is over" else save_tiny_model(spark, store)
            preparing.append(of_this_process(Phase.WARMING_UP, run_id="next", model_version=version))
            write_heartbeat(live, preparing[0], standby=True)
        elif preparing and set(log.glob("*.crc")) == before:
            # With a checksum file a successor goes on at once from what this stream has committed.
            send(live, [tweet(progress.rows)])
        elif preparing:
            write_heartbeat(live, replace(preparing[0], phase=Phase.STANDBY), standby=True)

    result = drain(spark, live, until_drained=False, run_id="now", lease=1, on_progress=on_progress, **limits)
    assert result.reason.startswith(due)
    newest = max(log.glob("*.json"))
    assert newest.with_suffix(".crc").exists()
    last = read_heartbeat(live)
    assert last is not None
    assert last.hands_over
    (live.run / "stream-standby.json").unlink()
