"""The heartbeat file: written whole, read in the reader's clock."""

import dataclasses
import json
import subprocess
import sys
import time

import pytest

from sentiment_assets.settings import Settings
from sentiment_assets.streaming.heartbeat import (
    Phase,
    forget_stop,
    of_this_process,
    read_heartbeat,
    request_stop,
    stop_requested,
    write_heartbeat,
)


def test_what_is_written_is_read_back_and_its_process_is_found_alive(settings: Settings) -> None:
    written = of_this_process(Phase.RUNNING, run_id="r", lease=3, offsets={"0": 5}, rows=7, ready=True)
    write_heartbeat(settings, written)
    heartbeat = read_heartbeat(settings)
    assert heartbeat is not None
    assert heartbeat.alive is True
    assert heartbeat.running
    same = dataclasses.replace(heartbeat, at=written.at, alive=None)
    assert same == written
    assert abs(heartbeat.at - written.at) < 60


def test_the_heartbeat_of_a_dead_process_is_recognised(settings: Settings) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    write_heartbeat(settings, dataclasses.replace(of_this_process(Phase.RUNNING), pid=child.pid))
    heartbeat = read_heartbeat(settings)
    assert heartbeat is not None
    assert heartbeat.alive is False
    assert not heartbeat.running


def test_a_reused_pid_is_not_taken_for_the_stream(settings: Settings) -> None:
    me = of_this_process(Phase.RUNNING)
    write_heartbeat(settings, dataclasses.replace(me, create_time=me.create_time - 1000))
    heartbeat = read_heartbeat(settings)
    assert heartbeat is not None
    assert heartbeat.alive is False
    assert not heartbeat.running


def test_a_wall_clock_set_forward_does_not_age_the_heartbeat(settings: Settings) -> None:
    me = of_this_process(Phase.RUNNING)
    write_heartbeat(settings, dataclasses.replace(me, at=me.at - 5000))
    heartbeat = read_heartbeat(settings)
    assert heartbeat is not None
    assert abs(time.time() - heartbeat.at) < 60


def test_a_heartbeat_of_an_earlier_boot_is_judged_by_the_wall_clock(settings: Settings) -> None:
    me = of_this_process(Phase.RUNNING)
    write_heartbeat(settings, dataclasses.replace(me, at=me.at - 5000, monotonic=me.monotonic + 1e6))
    heartbeat = read_heartbeat(settings)
    assert heartbeat is not None
    assert heartbeat.at == me.at - 5000


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"pid": 1, "phase": "dancing"})])
def test_an_unreadable_heartbeat_is_no_heartbeat(settings: Settings, content: str) -> None:
    (settings.run / "stream-heartbeat.json").write_text(content)
    assert read_heartbeat(settings) is None


def test_no_heartbeat_at_all(settings: Settings) -> None:
    assert read_heartbeat(settings) is None


def test_a_stop_request_reaches_only_the_stream_that_ran_when_it_was_made(settings: Settings) -> None:
    before = time.time() - 100
    assert stop_requested(settings, before) is None
    request_stop(settings, "the main job ends")
    assert stop_requested(settings, before) == "the main job ends"
    assert stop_requested(settings, time.time() + 100) is None
    forget_stop(settings)
    assert stop_requested(settings, before) is None
