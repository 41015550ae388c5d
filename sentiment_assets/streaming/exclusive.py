"""One stream at a time: a lock on a file that the writing JVM itself holds.

The Spark JVM runs the batches, and it can outlive a killed Python process by a moment. So the lock is a ``FileChannel``
lock of the JVM: the operating system drops it when the JVM is gone, never before. On Linux and macOS that is a POSIX
record lock, which Python can test and take with ``fcntl``. Where Python commits (``sink``) it can outlive the JVM: the
locks of the tables, which Python holds, are given back once the sink is closed.
Does not belong here: the lock of a single table (``spark.delta``).
"""

import contextlib
import errno
import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from sentiment_assets.failures import StreamError
from sentiment_assets.runtime.identity import living_process
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.heartbeat import Heartbeat, read_heartbeat
from sentiment_assets.streaming.jvm import jvm

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

# A POSIX lock belongs to the process, and closing any channel on the file drops it: the process that holds it
# must not open the file again, not even to be refused.
_held_here: set[Path] = set()
_guard = threading.Lock()

_POLL_SECONDS = 0.1
PATIENCE_SECONDS = 15.0
"""How long a new stream waits for the JVM of a dead one to go; shutting down took 1 to 3 s when measured."""
_ORPHAN_SECONDS = 6.0
"""A JVM that is there so long after the last sign of life of its dead Python process hangs."""


def lock_file(settings: Settings) -> Path:
    """The file that is locked; its content means nothing."""
    return settings.run / "stream.lock"


@contextlib.contextmanager
def hold_stream_lock(
    spark: "SparkSession",
    settings: Settings,
    patience: float = PATIENCE_SECONDS,
    turn: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Be the only stream of this home while the block runs.

    Parameters
    ----------
    patience
        Seconds to wait while the lock is held but no living process stands behind the last heartbeat.
    turn
        Wait as long as another stream holds the lock, and call this meanwhile; what it raises ends the wait.

    Raises
    ------
    StreamError
        When another stream runs; names it.
    """
    file = lock_file(settings)
    with _guard:
        if file in _held_here:
            raise _held(settings)
        _held_here.add(file)
    try:
        channel = jvm(spark).java.io.RandomAccessFile(str(file), "rw").getChannel()
        try:
            if turn is None:
                _wait_for_lock(lambda: channel.tryLock() is not None, settings, patience)
            else:
                while channel.tryLock() is None:
                    turn()
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            # Closing the channel drops the lock. A JVM that is gone has dropped it already.
            with contextlib.suppress(Exception):
                channel.close()
    finally:
        _held_here.discard(file)


@contextlib.contextmanager
def exclude_streams(settings: Settings) -> Iterator[None]:
    """Keep any stream from starting while the block runs; needs no JVM. Waits for the JVM of a dead stream to go.

    Raises
    ------
    StreamError
        When a stream runs (names it), or the lock file cannot be written.
    """
    try:
        settings.run.mkdir(parents=True, exist_ok=True)
        file = lock_file(settings).open("ab")
    except OSError as error:
        raise StreamError(
            f"The stream's lock {lock_file(settings)} cannot be written ({error.strerror}).",
            "Make SENTIMENT_HOME writable for you, then run the command again; nothing was changed.",
        ) from error
    with file:
        last = read_heartbeat(settings)
        dead = last is not None and last.alive is False
        _wait_for_lock(lambda: _is_locked(file.fileno()), settings, PATIENCE_SECONDS if dead else 0.0)
        yield


def _is_locked(descriptor: int) -> bool:
    """Take the lock unless another process has it; whether it is ours now."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _wait_for_lock(try_lock: Callable[[], bool], settings: Settings, patience: float) -> None:
    """Wait for the JVM of a dead stream to go, and end one that hangs."""
    deadline = time.monotonic() + patience
    while not try_lock():
        heartbeat = read_heartbeat(settings)
        end_hanging_jvm(heartbeat)
        if time.monotonic() >= deadline or (heartbeat is not None and heartbeat.running):
            raise _held(settings)
        time.sleep(_POLL_SECONDS)


def end_hanging_jvm(heartbeat: Heartbeat | None) -> None:
    """SIGKILL the JVM of a stream whose Python process is gone, if it outlives that: it would keep the lock."""
    if heartbeat is None or heartbeat.alive is not False or heartbeat.jvm_pid is None:
        return
    left = living_process(heartbeat.jvm_pid, heartbeat.jvm_create_time)
    if left is not None and time.time() - heartbeat.at >= _ORPHAN_SECONDS:
        log.warning("The Spark JVM %d of a dead stream hangs; it is ended.", left.pid)
        with contextlib.suppress(psutil.Error):
            left.kill()


def _held(settings: Settings) -> StreamError:
    heartbeat = read_heartbeat(settings)
    if heartbeat is None or not heartbeat.running:
        who = "a process that has given no heartbeat yet"
    elif heartbeat.run_id:
        who = f"run {heartbeat.run_id} (process {heartbeat.pid}, {heartbeat.state})"
    else:
        who = f"process {heartbeat.pid} in the foreground ({heartbeat.state})"
    return StreamError(
        f"Another stream writes the tables of {settings.root}: {who}.",
        "Wait for its end or stop it; `sentiment-assets status` shows it.",
    )
