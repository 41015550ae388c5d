"""One lease of the stream: the same code for a Dagster run and for the command line.

The story is :meth:`_Lease.run`: hold the lock, verify the pair, load the model, warm up, consume until a reason to
end comes, end at a batch boundary, complete the dead letters, care for the tables.
Does not belong here: the plan (``query``), whether to start at all (``supervisor``).
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from typing import TypeVar

import psutil
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from sentiment_assets.failures import BrokerError, StreamError
from sentiment_assets.kafka.client import bootstrap_servers, ensure_topic, topic_id, watermarks
from sentiment_assets.models.store import ModelStore
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import writer_lock
from sentiment_assets.streaming import heartbeat as heartbeats
from sentiment_assets.streaming.care import care_for_tables
from sentiment_assets.streaming.causes import explain
from sentiment_assets.streaming.dead_letters import DeadLetters
from sentiment_assets.streaming.exclusive import hold_stream_lock
from sentiment_assets.streaming.heartbeat import Phase
from sentiment_assets.streaming.pairing import ensure_pair
from sentiment_assets.streaming.positions import committed_offsets, first_offsets
from sentiment_assets.streaming.progress import Batch, Progress, read_batch
from sentiment_assets.streaming.query import predictions, read_topic, start
from sentiment_assets.streaming.reset import finish_reset
from sentiment_assets.streaming.serving import load_model, version_to_serve
from sentiment_assets.streaming.warm_up import warm_up

log = logging.getLogger(__name__)
T = TypeVar("T")

_TICK_SECONDS = 0.2
_BEAT_SECONDS = 1.0
_DEAD_LETTER_SECONDS = 5.0
_BOUNDARY_POLL_SECONDS = 0.02
_BOUNDARY_SECONDS = 60.0
_BOUNDARY_SECONDS_WHEN_ASKED = 12.0
_STALL_SECONDS = 600.0
"""A batch that takes longer makes no progress: Kafka's client gives up after minutes, a full batch takes 20 s."""


@dataclass(frozen=True)
class LeaseResult:
    """What a lease did.

    Parameters
    ----------
    rows, dead
        Rows written to ``predictions`` and to ``dead_letters``.
    seconds
        From the first batch's start to the last commit.
    batches
        Micro-batches with data.
    reason
        Why it ended.
    """

    rows: int
    dead: int
    seconds: float
    batches: int
    reason: str
    model_version: str


def run_lease(
    spark: SparkSession,
    settings: Settings,
    *,
    model_version: str | None = None,
    lease_seconds: float,
    until_drained: bool = False,
    idle_seconds: float,
    run_id: str | None = None,
    lease: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], str | None] = lambda: None,
) -> LeaseResult:
    """Score the topic until the lease is over.

    Parameters
    ----------
    spark
        A session of the role ``stream``.
    model_version
        Score with this version whatever is chosen meanwhile; ``None``: the chosen one, and end when another is.
    lease_seconds
        Longest life, counted from when it is ready.
    until_drained
        End as soon as nothing is left in the topic.
    idle_seconds
        End when no message came for so long.
    run_id, lease
        Of the Dagster run, for the heartbeat; ``None`` in the foreground.
    on_progress
        Called about once a second, in the calling thread.
    should_stop
        Asked about five times a second; a text is the reason to end.

    Returns
    -------
    LeaseResult
        When it returns, predictions and dead letters together have every offset below the committed position.

    Raises
    ------
    StreamError
        When another stream runs, checkpoint, table and topic disagree, or the query dies.
    BrokerError
        When Kafka cannot be reached.
    ModelError
        When there is no model, or it cannot be loaded.
    TableError
        When a table cannot be created or written.
    """
    ends = _Ends(model_version is not None, lease_seconds, until_drained, idle_seconds, should_stop)
    return _Lease(spark, settings, model_version, ends, run_id, lease, on_progress).run()


@dataclass(frozen=True)
class _Ends:
    """What ends the lease."""

    model_is_fixed: bool
    lease_seconds: float
    until_drained: bool
    idle_seconds: float
    should_stop: Callable[[], str | None]


class _Lease:
    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        model_version: str | None,
        ends: _Ends,
        run_id: str | None,
        lease: int | None,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._spark, self._settings, self._ends = spark, settings, ends
        self._store = ModelStore(settings.models)
        self._version = version_to_serve(self._store, model_version)
        self._run_id, self._lease, self._on_progress = run_id, lease, on_progress
        self._born = psutil.Process().create_time()
        self._started_at = time.time()
        self._jvm_pid = int(spark._jvm.java.lang.ProcessHandle.current().pid())  # type: ignore[union-attr]
        self._progress = Progress(Phase.STARTING, self._version)
        self._newest_report: tuple[int, str] | None = None
        self._beaten = 0.0
        self._polled = 0.0
        self._dead = 0

    def run(self) -> LeaseResult:
        with contextlib.ExitStack() as held:
            held.enter_context(hold_stream_lock(self._spark, self._settings))
            for table in (PREDICTIONS, DEAD_LETTERS):
                held.enter_context(writer_lock(self._settings.table(table.name)))
            held.enter_context(self._last_word())
            return self._consume()

    def _consume(self) -> LeaseResult:
        self._beat()
        finish_reset(self._settings)
        bootstrap, topic = self._reach_topic()
        pair = self._while_beating(lambda: ensure_pair(self._spark, self._settings, topic))
        model = self._while_beating(lambda: load_model(self._store, self._version))
        self._enter(Phase.WARMING_UP)
        available = self._available(bootstrap)
        self._while_beating(lambda: warm_up(self._spark, self._settings, bootstrap, model, available))
        letters = DeadLetters(
            self._spark, self._settings, bootstrap, pair.pair_id, first_offsets(self._settings)
        )
        committed = committed_offsets(self._settings)
        letters.resume(committed)
        self._progress = replace(self._progress, offsets=committed)
        self._complete(letters, bootstrap)
        frame = predictions(read_topic(self._spark, self._settings, bootstrap), model, self._version)
        with self._explained():
            query = start(frame, self._settings)
        try:
            self._progress = replace(self._progress, ready=True)
            self._enter(Phase.DRAINING if self._ends.until_drained else Phase.RUNNING)
            reason = self._loop(query, letters, bootstrap)
            log.info("The lease ends: %s", reason)
            self._stop_at_boundary(query, letters, asked=reason.startswith("stop asked"))
        finally:
            with contextlib.suppress(Py4JError, PySparkException):
                query.stop()
        self._complete(letters, bootstrap)
        if not reason.startswith("stop asked"):
            self._enter(Phase.CARING)
            self._while_beating(lambda: care_for_tables(self._spark, self._settings))
        return LeaseResult(
            self._progress.rows,
            self._dead,
            round(self._progress.seconds, 3),
            self._progress.batches,
            reason,
            self._version,
        )

    def _loop(self, query: StreamingQuery, letters: DeadLetters, bootstrap: str) -> str:
        """Follow the query until there is a reason to end."""
        ready = last_data = caught_up = progressed = time.monotonic()
        while True:
            with self._explained():
                self._raise_if_dead(query)
                batches = self._collect(query, letters)
                busy = bool(query.status["isTriggerActive"])
            now = time.monotonic()
            if batches or not busy:
                progressed = now
            if any(batch.messages for batch in batches):
                last_data = now
            if now - progressed > _STALL_SECONDS:
                raise StreamError(
                    f"A batch has made no progress for {_STALL_SECONDS:.0f} s.",
                    "Read the end of SENTIMENT_HOME/logs/spark-stream.log; the stream goes on where it stopped.",
                )
            if letters.due and now - caught_up > _DEAD_LETTER_SECONDS:
                self._complete(letters, bootstrap)
                caught_up = time.monotonic()
            beat_is_due = now - self._beaten >= _BEAT_SECONDS
            if beat_is_due:
                letters.save()
                self._beat()
            reason = self._reason_to_end(now - ready, now - last_data, busy, bootstrap)
            if reason is not None:
                return reason
            time.sleep(_TICK_SECONDS)

    def _reason_to_end(self, age: float, idle: float, busy: bool, bootstrap: str) -> str | None:
        asked = self._ends.should_stop() or heartbeats.stop_requested(self._settings, self._born)
        if asked:
            return f"stop asked: {asked}"
        if age >= self._ends.lease_seconds:
            return "lease time is over"
        if idle >= self._ends.idle_seconds:
            return f"idle for {self._ends.idle_seconds:g} s"
        if time.monotonic() - self._polled < _BEAT_SECONDS:
            return None
        self._polled = time.monotonic()
        chosen = self._store.chosen()
        if not self._ends.model_is_fixed and chosen not in (None, self._version):
            return f"newer model {chosen}"
        if self._ends.until_drained and not busy and self._is_drained(bootstrap):
            return "drained"
        return None

    def _is_drained(self, bootstrap: str) -> bool:
        offsets = self._progress.offsets
        return all(
            offsets.get(partition, low) >= high
            for partition, (low, high) in self._available(bootstrap).items()
        )

    def _stop_at_boundary(self, query: StreamingQuery, letters: DeadLetters, *, asked: bool) -> None:
        """Stop right after a commit, so that no work is thrown away; after a deadline stop anyway."""
        deadline = time.monotonic() + (_BOUNDARY_SECONDS_WHEN_ASKED if asked else _BOUNDARY_SECONDS)
        with self._explained():
            while time.monotonic() < deadline and query.isActive:
                if self._collect(query, letters) or not query.status["isTriggerActive"]:
                    break
                self._beat_if_due()
                time.sleep(_BOUNDARY_POLL_SECONDS)
            self._raise_if_dead(query)
            query.stop()
            self._collect(query, letters)

    def _collect(self, query: StreamingQuery, letters: DeadLetters) -> list[Batch]:
        """Batches committed since the last call, in order.

        Spark keeps the last 100 reports. PySpark's own ``recentProgress`` would turn each into objects by dozens
        of calls to the JVM; the JSON is one call.
        """
        reports = query._jsq.recentProgress()
        newest = self._newest_report
        fresh: list[Batch] = []
        for place in range(len(reports) - 1, -1, -1):
            report = reports[place]
            # While idle, Spark reports the coming batch again and again: only the time tells reports apart.
            key = (report.batchId(), report.timestamp())
            if key == self._newest_report:
                break
            if not fresh:
                newest = key
            fresh.append(read_batch(report.json(), self._settings.topic))
        self._newest_report = newest
        fresh.reverse()
        for batch in fresh:
            self._progress = self._progress.add(batch)
            letters.note(batch)
        return fresh

    def _complete(self, letters: DeadLetters, bootstrap: str) -> None:
        """Write the dead letters that are due."""
        if letters.due:
            available = self._available(bootstrap)
            self._dead += self._while_beating(lambda: letters.catch_up(available))
        else:
            letters.save()

    def _reach_topic(self) -> tuple[str, str]:
        """Address of the cluster and Kafka's id of the topic, which is created if it is not there."""
        bootstrap = bootstrap_servers(self._settings)
        if bootstrap is None:
            raise BrokerError(
                "No Kafka broker runs.",
                "Start one with `sentiment-assets kafka start`, or set SENTIMENT_KAFKA_BOOTSTRAP.",
            )
        ensure_topic(bootstrap, self._settings.topic, self._settings.topic_partitions)
        found = topic_id(bootstrap, self._settings.topic)
        if found is None:
            raise BrokerError(f"The topic {self._settings.topic} was removed just now.", "Try again.")
        return bootstrap, found

    def _available(self, bootstrap: str) -> dict[int, tuple[int, int]]:
        return watermarks(bootstrap, self._settings.topic)

    def _raise_if_dead(self, query: StreamingQuery) -> None:
        if query.isActive:
            return
        error = query.exception()
        raise explain(f"{error}" if error is not None else "the query ended by itself")

    def _enter(self, phase: Phase) -> None:
        self._progress = replace(self._progress, phase=phase)
        self._beat()

    def _beat_if_due(self) -> None:
        if time.monotonic() - self._beaten >= _BEAT_SECONDS:
            self._beat()

    def _beat(self, detail: str = "") -> None:
        """Give a sign of life, of the JVM's too: asking it for the time fails or hangs when it is gone."""
        if self._progress.phase is not Phase.STOPPED:
            with self._explained():
                self._spark._jvm.java.lang.System.currentTimeMillis()  # type: ignore[union-attr]
        self._beaten = time.monotonic()
        progress = self._progress
        try:
            heartbeats.write_heartbeat(
                self._settings,
                heartbeats.of_this_process(
                    progress.phase,
                    detail=detail,
                    run_id=self._run_id,
                    lease=self._lease,
                    model_version=self._version,
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
                    jvm_pid=self._jvm_pid,
                ),
            )
        except OSError as error:
            log.warning("The heartbeat cannot be written: %s", error)
        self._on_progress(progress)

    def _while_beating(self, work: Callable[[], T]) -> T:
        """Do something that takes seconds in a thread of its own, and go on giving signs of life."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="lease")
        try:
            future: Future[T] = pool.submit(work)
            while not wait_for([future], timeout=_BEAT_SECONDS).done:
                self._beat()
            return future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def _last_word(self) -> Iterator[None]:
        """Say in the heartbeat how it ended, whatever happened."""
        detail = "interrupted"
        try:
            yield
            detail = "the lease is over"
        except Exception as error:
            detail = str(error)
            raise
        finally:
            self._progress = replace(self._progress, phase=Phase.STOPPED, ready=False)
            heartbeats.forget_stop(self._settings)
            self._beat(detail)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn Spark's stack traces into one sentence and a next step."""
        try:
            yield
        except (Py4JError, PySparkException, ConnectionError) as error:
            raise explain(f"{type(error).__name__}: {error}") from error
