"""Who executes: an identity of a process that survives reuse of pids and tells machines apart."""

import os
import socket

import psutil


def process_tag() -> str:
    """Identity of this process, safe against reuse of pids and against other machines."""
    return f"{socket.gethostname()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


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
