"""The heartbeat of the stream: one small file that says who writes, since when, and how far it is.

The lease loop writes it after the Spark JVM has answered a question about the query, so a fresh heartbeat
proves that the query was alive, not only that some thread was. Readers need no JVM.
Does not belong here: what to do about a silent stream (``supervisor``).
"""

import dataclasses
import json
import platform
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from sentiment_assets.runtime.files import replace_file
from sentiment_assets.runtime.identity import is_start, start_of
from sentiment_assets.settings import Settings


class Phase(StrEnum):
    """What a stream is doing."""

    STARTING = "starting"
    WARMING_UP = "warming up"
    STANDBY = "standing by"
    RUNNING = "running"
    DRAINING = "draining"
    CARING = "caring for the tables"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Heartbeat:
    """The state of the stream when it last gave a sign of life.

    Parameters
    ----------
    pid, create_time
        The Python process and its start (see ``runtime.identity.start_of``), which together name it for good.
    at
        When it was written, in seconds since the epoch of the *reader's* clock (see :func:`read_heartbeat`).
    phase, detail
        What the stream does, and for a stopped one why.
    run_id, lease
        The Dagster run; both ``None`` for a stream in the foreground.
    model_version, scorer
        What scores, and which way and why (see :class:`~..progress.Progress`).
    ready
        Whether it consumes (false while it starts and warms up).
    offsets
        Next offset to score by partition.
    rows, dead, positives, batches
        Totals of this lease: predictions, dead letters seen, positive predictions, micro-batches with data.
    rows_per_second, last_batch_seconds, visible_latency_seconds
        Of the last batch with data; latency is its median row's age when it became visible.
    lease_left_seconds
        Until the lease is over; ``None`` before it is ready.
    idle_seconds
        Since the last message came.
    hands_over
        Of a stopped one: its successor may go on at once; a stream that a person stopped or that failed does not
        hand over.
    took_over_at
        When it became the stream that writes, if it stood by before; seconds since the epoch.
    alive
        Whether the process exists, set by :func:`read_heartbeat`; ``None``: it cannot be told from here.
    """

    pid: int
    create_time: float
    at: float
    phase: Phase
    detail: str = ""
    run_id: str | None = None
    lease: int | None = None
    model_version: str | None = None
    scorer: str = ""
    started_at: float = 0.0
    ready: bool = False
    batches: int = 0
    rows: int = 0
    dead: int = 0
    positives: int = 0
    lag: int | None = None
    offsets: dict[str, int] = field(default_factory=dict)
    rows_per_second: float | None = None
    last_batch_seconds: float | None = None
    visible_latency_seconds: float | None = None
    lease_left_seconds: float | None = None
    idle_seconds: float = 0.0
    hands_over: bool = False
    took_over_at: float | None = None
    jvm_pid: int | None = None
    jvm_create_time: float = 0.0
    host: str = ""
    monotonic: float = 0.0
    alive: bool | None = None

    @property
    def state(self) -> str:
        """Phase and detail as one text: ``running``, ``stopped: lease time is over``."""
        return f"{self.phase}: {self.detail}" if self.detail else str(self.phase)

    @property
    def running(self) -> bool:
        """Whether a process stands behind it: not stopped, and not known to be gone."""
        return self.phase is not Phase.STOPPED and self.alive is not False


def _path(settings: Settings, *, standby: bool = False) -> Path:
    return settings.run / ("stream-standby.json" if standby else "stream-heartbeat.json")


def of_this_process(phase: Phase, **figures: Any) -> Heartbeat:
    """A heartbeat of the calling process, taken now; ``figures`` are further fields of :class:`Heartbeat`."""
    me = psutil.Process()
    return Heartbeat(
        pid=me.pid,
        create_time=start_of(me),
        at=time.time(),
        phase=phase,
        host=platform.node(),
        monotonic=time.monotonic(),
        **figures,
    )


def write_heartbeat(settings: Settings, heartbeat: Heartbeat, *, standby: bool = False) -> None:
    """Replace the heartbeat file in one step; a reader sees the old one or the new one, never a part.

    Parameters
    ----------
    standby
        Of a stream that prepares itself while another one still writes: a file of its own.

    Raises
    ------
    OSError
        When the disk is full or the folder is gone.
    """
    content = dataclasses.asdict(heartbeat)
    del content["alive"]
    replace_file(_path(settings, standby=standby), json.dumps(content), durable=False)


def read_heartbeat(settings: Settings) -> Heartbeat | None:
    """The last heartbeat, or ``None`` when there is none that can be read.

    Its ``at`` is expressed in the reader's clock: ages come from the monotonic clock, which all processes of
    a machine share, so that a wall clock set forward or back makes no living stream look dead. A monotonic
    time in the future belongs to an earlier boot; then the wall clock counts.
    """
    return _read(_path(settings))


def read_standby(settings: Settings) -> Heartbeat | None:
    """The last heartbeat of a stream that stands by, see :func:`read_heartbeat`; ``None`` when none does."""
    return _read(_path(settings, standby=True))


def forget_standby(settings: Settings) -> None:
    """Remove the heartbeat of this process as one that stands by."""
    _path(settings, standby=True).unlink(missing_ok=True)


def _read(file: Path) -> Heartbeat | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content["phase"] = Phase(content["phase"])
        known = {f.name for f in dataclasses.fields(Heartbeat)}
        heartbeat = Heartbeat(**{name: value for name, value in content.items() if name in known})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if heartbeat.host != platform.node():
        return heartbeat
    age = time.monotonic() - heartbeat.monotonic
    at = time.time() - age if age >= 0 else heartbeat.at
    return dataclasses.replace(heartbeat, at=at, alive=_alive(heartbeat.pid, heartbeat.create_time))


def request_stop(settings: Settings, reason: str) -> None:
    """Ask the stream that runs now to end at its next batch boundary, with ``reason`` as what it reports."""
    _stop_file(settings).write_text(reason, encoding="utf-8")


def stop_requested(settings: Settings, since: float) -> str | None:
    """The reason of a stop asked for at or after ``since`` (seconds since the epoch), else ``None``."""
    file = _stop_file(settings)
    try:
        if file.stat().st_mtime < since:
            return None
        return file.read_text(encoding="utf-8") or "asked to stop"
    except FileNotFoundError:
        return None


def forget_stop(settings: Settings) -> None:
    """Remove a stop request, because it has been followed."""
    _stop_file(settings).unlink(missing_ok=True)


def _stop_file(settings: Settings) -> Path:
    return settings.run / "stream.stop"


def _alive(pid: int, create_time: float) -> bool | None:
    """Whether the process exists: another one may have its pid by now. ``None``: nobody may ask."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        same = is_start(process, create_time)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return None
    return same
