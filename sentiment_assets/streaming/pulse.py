"""The pulse of a lease: signs of life while it works, and the last word when it ends.

A beat first asks the Spark JVM for the time, so a fresh heartbeat proves that both processes answer. Does not
belong here: the file itself (``heartbeat``), which work there is (``lease``).
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import replace
from typing import TypeVar

import psutil
from pyspark.sql import SparkSession

from sentiment_assets.runtime.identity import start_of
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.causes import explained
from sentiment_assets.streaming.heartbeat import (
    Phase,
    forget_standby,
    forget_stop,
    of_this_process,
    read_heartbeat,
    stop_requested,
    write_heartbeat,
)
from sentiment_assets.streaming.jvm import jvm
from sentiment_assets.streaming.progress import Progress

log = logging.getLogger(__name__)
T = TypeVar("T")

BEAT_SECONDS = 1.0


class Pulse:
    """Writes the heartbeat of one lease and tells the caller.

    Parameters
    ----------
    run_id, lease
        Of the Dagster run; ``None`` in the foreground.
    version
        Of the model.
    standby
        Begin as one that prepares itself beside the stream that writes; see :meth:`take_over`.
    on_progress
        Called at each beat, in the thread that beats.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        run_id: str | None,
        lease: int | None,
        version: str,
        on_progress: Callable[[Progress], None],
        *,
        standby: bool = False,
    ) -> None:
        self.progress = Progress(Phase.STARTING, version)
        self._settings, self._on_progress = settings, on_progress
        self._run_id, self._lease = run_id, lease
        self._started_at = time.time()
        self._beaten = 0.0
        self._standby = standby
        self._took_over_at: float | None = None
        self.lease_ends: float | None = None
        self.last_message = time.monotonic()
        self.hands_over = False
        # One thread for all: each new one would leave a connection and a thread behind in the JVM.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="lease")
        self._context = spark.sparkContext
        self._clock = jvm(spark).java.lang.System
        self._jvm = psutil.Process(int(jvm(spark).java.lang.ProcessHandle.current().pid()))
        self._jvm_start = start_of(self._jvm)

    @contextlib.contextmanager
    def last_word(self) -> Iterator[None]:
        """Say in the heartbeat that and why the lease ended, whatever happens inside; follows a stop request."""
        detail = "interrupted"
        try:
            yield
            detail = self.progress.detail
        except Exception as error:
            detail = str(error)
            raise
        finally:
            forget_stop(self._settings)
            self.say_stopped(detail)
            self._worker.shutdown()

    def say_stopped(self, detail: str) -> None:
        """Give the last sign of life, unless another stream has begun: its signs are not to be overwritten."""
        self.progress = replace(self.progress, phase=Phase.STOPPED, detail=detail, ready=False)
        last = read_heartbeat(self._settings)
        if last is None or last.pid == os.getpid() or not last.running:
            self._write()

    @contextlib.contextmanager
    def standing_by(self) -> Iterator[None]:
        """Leave no heartbeat of a stream that stands by behind, however the block ends."""
        try:
            yield
        finally:
            if self._standby:
                forget_standby(self._settings)
            self._worker.shutdown()

    def take_over(self) -> None:
        """From now on this is the stream that writes; call it with the stream's lock held."""
        self._standby = False
        self._took_over_at = time.time()
        self.beat()
        forget_standby(self._settings)

    def stop_requested(self) -> str | None:
        """The reason of a request to stop this stream, made since the lease began."""
        return stop_requested(self._settings, self._started_at)

    def enter(self, phase: Phase, detail: str = "") -> None:
        """Go on to another phase."""
        self.progress = replace(self.progress, phase=phase, detail=detail)
        self.beat()

    def beat(self) -> None:
        """Give a sign of life.

        Raises
        ------
        StreamError
            When the JVM is gone.
        """
        with explained():
            self._clock.currentTimeMillis()
        self._write()

    def beat_if_due(self) -> bool:
        """Beat unless that was done within the last second; returns whether it was."""
        due = time.monotonic() - self._beaten >= BEAT_SECONDS
        if due:
            self.beat()
        return due

    def during(self, work: Callable[[], T]) -> T:
        """Do something that takes seconds in a thread of its own, and go on giving signs of life.

        Interrupted, it cancels what Spark does for the work and waits for its end: nothing may still write when
        the lock is given back.
        """
        return self.finish(self.beside(work))

    def finish(self, future: "Future[T]") -> T:
        """Wait for what was begun by :meth:`beside`, with the signs of life and the care of :meth:`during`."""
        try:
            while not wait_for([future], timeout=BEAT_SECONDS).done:
                self.beat()
        except BaseException:
            with contextlib.suppress(Exception):
                self._context.cancelAllJobs()
            wait_for([future])
            raise
        return future.result()

    def beside(self, work: Callable[[], T]) -> "Future[T]":
        """Do something while the query goes on; one thing after the other."""
        return self._worker.submit(work)

    def _write(self) -> None:
        self._beaten = time.monotonic()
        progress = self.progress
        heartbeat = of_this_process(
            progress.phase,
            detail=progress.detail,
            run_id=self._run_id,
            lease=self._lease,
            model_version=progress.model_version,
            scorer=progress.scorer,
            started_at=self._started_at,
            ready=progress.ready,
            batches=progress.batches,
            rows=progress.rows,
            dead=progress.dead,
            positives=progress.positives,
            lag=progress.lag,
            offsets={str(partition): offset for partition, offset in progress.offsets.items()},
            rows_per_second=progress.rows_per_second,
            last_batch_seconds=progress.last_batch_seconds,
            visible_latency_seconds=progress.visible_latency_seconds,
            lease_left_seconds=None if self.lease_ends is None else self.lease_ends - self._beaten,
            idle_seconds=self._beaten - self.last_message,
            hands_over=self.hands_over,
            took_over_at=self._took_over_at,
            jvm_pid=self._jvm.pid,
            jvm_create_time=self._jvm_start,
        )
        try:
            write_heartbeat(self._settings, heartbeat, standby=self._standby)
        except OSError as error:
            log.warning("The heartbeat cannot be written: %s", error)
        self._on_progress(progress)
