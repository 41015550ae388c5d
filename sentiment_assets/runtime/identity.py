"""Who executes: what names a process for good, whatever becomes of its pid, the clock and the machine."""

import os
import socket
import sys
from pathlib import Path

import psutil

SAME_PROCESS_SECONDS = 2.0
_EPOCH_SECONDS = 1e9
"""A start beyond this is in seconds since 1970: on macOS, and in records of older releases."""


def start_of(process: psutil.Process) -> float:
    """When a process started: a number that tells it from any other one with its pid.

    Seconds since the epoch would move: Linux, and so psutil, derives them from the boot time, which is another one
    after the clock was set. On Linux it is the seconds from the boot to the start, behind a number of the boot.

    Raises
    ------
    psutil.Error
        When there is no such process.
    """
    if not sys.platform.startswith("linux"):
        return process.create_time()
    try:
        # The name, in parentheses, may hold anything; proc(5) counts the start as field 22.
        fields = Path(f"/proc/{process.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError as error:
        raise psutil.NoSuchProcess(process.pid) from error
    return _boot() + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def is_start(process: psutil.Process, started: float) -> bool:
    """Whether a process is the one that started then; raises as :func:`start_of`."""
    actual = process.create_time() if started > _EPOCH_SECONDS else start_of(process)
    return abs(actual - started) < SAME_PROCESS_SECONDS


def process_tag() -> str:
    """Identity of this process, safe against reuse of pids and against other machines."""
    return f"{socket.gethostname()}/{os.getpid()}/{start_of(psutil.Process()):.2f}"


def living_process(pid: int, started: float) -> psutil.Process | None:
    """The very process that had a pid and a start (:func:`start_of`); None if it has ended."""
    try:
        process = psutil.Process(pid)
        return process if is_start(process, started) and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def process_of(tag: str) -> psutil.Process | None:
    """The living process of a :func:`process_tag`; None if it has ended, or is another machine's."""
    try:
        host, pid, started = tag.rsplit("/", 2)
        return living_process(int(pid), float(started)) if host == socket.gethostname() else None
    except ValueError:
        return None


def process_is_gone(tag: str) -> bool:
    """Whether the process of a :func:`process_tag` has ended; False where that cannot be known."""
    try:
        host, pid, started = tag.rsplit("/", 2)
        if host != socket.gethostname():
            return False
        return not is_start(psutil.Process(int(pid)), float(started))
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.AccessDenied):
        return False


def _boot() -> int:
    """A number below 8e8 that is another one after each boot."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return 0
    return int(boot_id[:8], 16) % 800_000_000
