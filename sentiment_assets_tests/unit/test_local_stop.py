"""Ctrl-C once ends in order, twice at once, and neither leaves anything running."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sentiment_assets.local.up import _all_ended, _signals, _Stop
from sentiment_assets.runtime.processes import ManagedProcess
from sentiment_assets.settings import Settings

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("listens to nothing", flush=True)
time.sleep(60)
"""


CLOSED_TERMINAL = """
import fcntl, sys, termios
from pathlib import Path
from sentiment_assets.local.up import _signals, _Stop
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
stop = _Stop(orderly=True)
with _signals(stop):
    print("waits", flush=True)
    assert stop.wait(60)
    print("stopping", flush=True)
    print("stopping", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text("in order")
"""


@pytest.fixture
def stop() -> Iterator[_Stop]:
    stop = _Stop(orderly=True)
    with _signals(stop):
        yield stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_for_an_orderly_end(stop: _Stop, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    assert stop.wait(5)
    assert not stop.hurried


def test_a_terminal_that_is_closed_after_ctrl_c_does_not_hurry_the_end(stop: _Stop) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGHUP)
    assert stop.wait(5)
    assert not stop.hurried


def test_a_closed_terminal_does_not_break_the_orderly_end(tmp_path: Path) -> None:
    program, ended = tmp_path / "program.py", tmp_path / "ended"
    program.write_text(CLOSED_TERMINAL)
    terminal, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, str(program), str(ended)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    while b"waits" not in said:
        said += os.read(terminal, 1000)
    os.close(terminal)
    assert child.wait(timeout=60) == 0
    assert ended.read_text() == "in order"


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = _Stop(orderly=True)
        with _signals(stop):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_during_the_start_interrupts_it_and_what_runs_is_ended_in_order(stop: _Stop) -> None:
    stop.orderly = False
    ended = []
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    stop.unless_hurried(lambda: ended.append(True))
    assert ended == [True]


def test_a_second_signal_kills_even_what_does_not_listen(settings: Settings, stop: _Stop) -> None:
    child = ManagedProcess.start("stubborn", [sys.executable, "-c", STUBBORN], settings=settings)
    process = psutil.Process(child.pid)
    deadline = time.monotonic() + 30
    while "listens to nothing" not in child.log.read_text():
        assert time.monotonic() < deadline
    stop.started.append("stubborn")

    def orderly_end() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal interrupts the orderly end")

    def interrupted_twice() -> None:
        with _all_ended(settings, stop):
            os.kill(os.getpid(), signal.SIGINT)
            stop.unless_hurried(orderly_end)

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    stop.unless_hurried(lambda: pytest.fail("nothing is ended in order any more"))
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
