"""Child processes are ended completely, and nothing else is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.processes import ManagedProcess, read_record, reap_recorded
from sentiment_assets.settings import Settings

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
# A parent whose child moves to a session of its own, as Dagster's run workers do.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        os.sched_yield()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def family(settings: Settings) -> Iterator[tuple[ManagedProcess, int]]:
    """A running parent and the pid of its child."""
    parent = ManagedProcess.start("parent", [sys.executable, "-c", FAMILY], settings=settings)
    eventually(lambda: parent.log.read_text().strip())
    yield parent, int(parent.log.read_text())
    parent.stop(grace_seconds=0)


def test_stop_ends_the_process_and_what_it_started(family: tuple[ManagedProcess, int]) -> None:
    parent, child = family
    parent.stop(grace_seconds=0.5)
    assert not parent.alive
    assert gone(child)


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(settings: Settings) -> None:
    process = ManagedProcess.start("stubborn", [sys.executable, "-c", STUBBORN], settings=settings)
    eventually(lambda: "up" in process.log.read_text())
    process.stop(grace_seconds=0.2)
    assert process.returncode == -signal.SIGKILL


def test_a_crashed_parent_leaves_a_child_that_is_reaped(
    settings: Settings, family: tuple[ManagedProcess, int]
) -> None:
    parent, child = family
    os.kill(parent.pid, signal.SIGKILL)
    eventually(lambda: not parent.alive)
    assert not gone(child)
    assert reap_recorded(settings, ["parent"]) == ["parent"]
    assert gone(child)
    assert read_record(settings, "parent") is None


def test_a_successor_ends_what_its_crashed_predecessor_left_running(
    settings: Settings, family: tuple[ManagedProcess, int]
) -> None:
    parent, child = family
    os.kill(parent.pid, signal.SIGKILL)
    eventually(lambda: not parent.alive)
    successor = ManagedProcess.start("parent", SLEEP, settings=settings)
    assert not gone(child)
    successor.stop(grace_seconds=5)
    assert gone(child)


def test_a_left_over_of_an_earlier_crash_is_reaped(settings: Settings) -> None:
    process = ManagedProcess.start("leftover", SLEEP, settings=settings)
    assert reap_recorded(settings, ["leftover", "never-started"]) == ["leftover"]
    eventually(lambda: not process.alive)


def test_a_process_that_got_the_pid_later_is_not_touched(settings: Settings) -> None:
    with subprocess.Popen(SLEEP) as stranger:
        record = {
            "pid": stranger.pid,
            "create_time": psutil.Process(stranger.pid).create_time() - 3600,
            "command": SLEEP,
            "log": "",
            "token": "of-another-process",
        }
        (settings.run / "old.json").write_text(json.dumps(record))
        assert ManagedProcess.recorded("old", settings) is None
        assert reap_recorded(settings, ["old"]) == []
        assert stranger.poll() is None
        stranger.kill()


def test_a_damaged_record_counts_as_none(settings: Settings) -> None:
    (settings.run / "broken.json").write_text("{")
    assert reap_recorded(settings, ["broken"]) == []


def test_a_running_process_is_found_again_by_its_record_with_its_facts(settings: Settings) -> None:
    started = ManagedProcess.start("server", SLEEP, settings=settings, facts={"address": "here"})
    started.note(ready="yes")
    found = ManagedProcess.recorded("server", settings)
    assert found is not None
    assert (found.pid, dict(found.facts)) == (started.pid, {"address": "here", "ready": "yes"})
    found.stop(grace_seconds=5)
    assert not started.alive


def test_output_goes_to_the_log_and_the_exit_status_is_kept(settings: Settings) -> None:
    command = [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"]
    process = ManagedProcess.start("brief", command, settings=settings)
    eventually(lambda: not process.alive)
    assert process.returncode == 7
    assert process.log.read_text().split() == ["out", "err"] or process.log.read_text().split() == [
        "err",
        "out",
    ]


def test_a_child_is_out_of_reach_of_the_terminals_ctrl_c(settings: Settings) -> None:
    process = ManagedProcess.start("apart", SLEEP, settings=settings)
    assert os.getsid(process.pid) != os.getsid(0)
    process.stop(grace_seconds=5)


def test_a_program_that_does_not_exist_is_an_error_with_a_next_step(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match="could not be started"):
        ManagedProcess.start("nothing", [str(tmp_path / "nothing")], settings=settings)
