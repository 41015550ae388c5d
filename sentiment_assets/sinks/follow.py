"""Following: a sink catches up with the table, waits for more, and rides out its own absence.

Belongs here: the loop, its pauses and its figures. Does not belong here: how rows are read or written.
The stream knows nothing of this: a sink that is slow or down costs it nothing.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_after_delay, stop_any, stop_when_event_set

from sentiment_assets.sinks.base import Sink, SinkAwayError, SinkError
from sentiment_assets.sinks.changes import ROWS_A_BATCH, Batch, Position, TableChanges

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class Followed:
    """How far a sink is, and what this run did.

    Attributes
    ----------
    version
        Version of the table that the sink holds; None before the first batch.
    table_version
        Version of the table.
    lag_versions
        Commits that the sink does not hold yet.
    rows, batches
        Written by this run.
    seconds
        Spent reading and writing.
    """

    sink: str
    version: int | None = None
    table_version: int | None = None
    rows: int = 0
    batches: int = 0
    seconds: float = 0.0

    @property
    def lag_versions(self) -> int | None:
        """None while there is no table."""
        if self.table_version is None:
            return None
        return self.table_version - (-1 if self.version is None else self.version)

    @property
    def text(self) -> str:
        """One line for a person."""
        rate = f", {self.rows / self.seconds:,.0f} rows/s" if self.seconds > 0 else ""
        return (
            f"{self.sink}: version {self.version} of {self.table_version} · {self.rows:,} rows in "
            f"{self.batches:,} batches{rate}"
        )


def follow(
    sink: Sink,
    table: Path,
    stop: threading.Event,
    *,
    once: bool = False,
    resync: bool = False,
    seconds: float | None = None,
    idle_seconds: float | None = None,
    rows: int = ROWS_A_BATCH,
    on_progress: Callable[[Followed], None] = lambda _followed: None,
) -> Followed:
    """Bring a sink up to the table's version, and keep it there.

    Parameters
    ----------
    table
        Folder of the Delta table.
    once
        End when it has caught up; a database that does not answer is then an error instead of a pause.
    resync
        Empty the sink first.
    seconds
        End after so long.
    idle_seconds
        End when nothing new came for so long.
    rows
        Most rows of a transaction, unless one file has more.
    on_progress
        Called after each batch.

    Raises
    ------
    SinkError
        When the sink refuses, or does not answer (with ``once``, or at the end of ``seconds``).
    TableError
        When the sink follows another table, or what it needs was cleaned away.
    """
    follower = _Follower(sink, table, stop, resync, rows, on_progress)
    end_at = None if seconds is None else time.monotonic() + seconds
    moved_at = time.monotonic()
    try:
        while not stop.is_set():
            left = None if end_at is None else max(0.0, end_at - time.monotonic())
            before = follower.state.batches
            try:
                for attempt in _persistent(sink, stop, 0.0 if once else left):
                    with attempt:
                        follower.catch_up()
            except SinkAwayError as error:
                if stop.is_set():
                    break
                raise SinkError(
                    f"The sink {sink.name} does not answer ({error}).",
                    "Start the database or mend its address; the sink then goes on where it is.",
                ) from None
            if follower.state.batches > before:
                moved_at = time.monotonic()
            idle = idle_seconds is not None and time.monotonic() - moved_at >= idle_seconds
            if once or idle or (end_at is not None and time.monotonic() >= end_at):
                break
            stop.wait(_LOOK_SECONDS)
    finally:
        sink.close()
    return follower.state


def read_followed(sink: Sink, table: Path) -> Followed:
    """How far a sink is, without writing anything.

    Raises
    ------
    SinkError, SinkAwayError
        When it refuses or does not answer.
    TableError
        When it follows another table.
    """
    try:
        sink.open(reading=True)
        position = sink.position()
    finally:
        sink.close()
    changes = TableChanges.open(table)
    if changes is not None and position is not None:
        changes.check(position)
    return Followed(sink.name, _version(position), None if changes is None else changes.version)


def count_rows(sink: Sink) -> int:
    """Exact number of rows, which takes a large database some seconds; raises as :func:`read_followed`."""
    try:
        sink.open(reading=True)
        return sink.count()
    finally:
        sink.close()


class _Follower:
    """One sink and what was done for it, across lost connections."""

    def __init__(
        self,
        sink: Sink,
        table: Path,
        stop: threading.Event,
        resync: bool,
        rows: int,
        on_progress: Callable[[Followed], None],
    ) -> None:
        self.state = Followed(sink.name)
        self._sink = sink
        self._table = table
        self._stop = stop
        self._resync = resync
        self._rows = rows
        self._on_progress = on_progress
        self._connected = False
        self._reached: TableChanges | None = None

    def catch_up(self) -> None:
        """Write everything up to the table's current version.

        Raises
        ------
        SinkAwayError
            When the connection is lost; the next call makes a new one.
        """
        if self._reached is not None and not self._reached.moved():
            return
        changes = TableChanges.open(self._table)
        if changes is None:
            return
        try:
            if not self._connected:
                self._sink.open()
                self._connected = True
            position = self._sink.position()
            if self._resync or position is None:
                # Without a position there may be rows of a resync or a first batch that was killed.
                self._sink.clear()
                self._resync, position = False, None
            self.state = replace(self.state, version=_version(position), table_version=changes.version)
            for batch in changes.batches(position, self._rows):
                self._write(batch)
                if self._stop.is_set():
                    return
            self._reached = changes
        except SinkAwayError:
            self._connected = False
            raise

    def _write(self, batch: Batch) -> None:
        begun = time.monotonic()
        if batch.anew:
            self._sink.clear()
        self._sink.write(batch)
        self.state = replace(
            self.state,
            version=_version(batch.position),
            rows=self.state.rows + batch.rows,
            batches=self.state.batches + 1,
            seconds=self.state.seconds + time.monotonic() - begun,
        )
        self._on_progress(self.state)


def _version(position: Position | None) -> int | None:
    """The last version that is wholly in the sink."""
    if position is None:
        return None
    if position.files is None:
        return position.version
    return None if position.whole else position.version - 1


def _persistent(sink: Sink, stop: threading.Event, seconds: float | None) -> Retrying:
    """Try again while the database is away: after 1 s, 2 s, ... a minute; says so once for each reason."""
    said = ""

    def note(state: RetryCallState) -> None:
        nonlocal said
        reason = str(state.outcome.exception() if state.outcome else None)
        if reason != said:
            said = reason
            logger.warning("The sink %s is away (%s); it catches up when it is back.", sink.name, reason)

    ends = stop_when_event_set(stop)
    return Retrying(
        retry=retry_if_exception_type(SinkAwayError),
        wait=wait_exponential(multiplier=1, max=_LONGEST_PAUSE_SECONDS),
        stop=ends if seconds is None else stop_any(ends, stop_after_delay(seconds)),
        sleep=sleep_using_event(stop),
        before_sleep=note,
        reraise=True,
    )
