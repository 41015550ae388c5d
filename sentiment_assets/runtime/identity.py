"""Who executes: an identity of a process that survives reuse of pids and tells machines apart."""

import os
import socket

import psutil

SAME_PROCESS_SECONDS = 2.0


def process_tag() -> str:
    """Identity of this process, safe against reuse of pids and against other machines."""
    return f"{socket.gethostname()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def living_process(pid: int, create_time: float) -> psutil.Process | None:
    """The very process that had a pid and a time of creation (seconds since the epoch); None if it has ended.

    psutil derives the time from the boot time, which moves a little when the clock is set.
    """
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) < SAME_PROCESS_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def process_is_gone(tag: str) -> bool:
    """Whether the process of a :func:`process_tag` has ended; False where that cannot be known."""
    try:
        host, pid, created = tag.rsplit("/", 2)
        if host != socket.gethostname():
            return False
        return abs(psutil.Process(int(pid)).create_time() - float(created)) > 1
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.AccessDenied):
        return False
