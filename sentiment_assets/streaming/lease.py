"""One lease of the stream: the same code for a Dagster run and for the command line.

The story is :meth:`_Lease.run`: verify the pair, load the model, warm up, consume until there is a reason to end,
end at a batch boundary, complete the dead letters. The tables are cared for beside the query.
Does not belong here: the plan (``query``), whether to start at all (``supervisor``), standing by (``handover``).
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace

from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from sentiment_assets.failures import (
    BrokerError,
    ModelError,
    SentimentError,
    StreamError,
    disk_is_full,
    first_line,
)
from sentiment_assets.kafka.client import ensure_topic, topic_id, watermarks
from sentiment_assets.kafka.cluster import Cluster, find_cluster
from sentiment_assets.models.store import ModelStore
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import writer_lock
from sentiment_assets.spark.session import write_no_checksum_files
from sentiment_assets.streaming import handover
from sentiment_assets.streaming.alerts import alert, clear
from sentiment_assets.streaming.care import care_for_tables, keep_logs_short
from sentiment_assets.streaming.causes import death_of, explained
from sentiment_assets.streaming.dead_letters import DeadLetters
from sentiment_assets.streaming.exclusive import PATIENCE_SECONDS, hold_stream_lock
from sentiment_assets.streaming.handover import Successor
from sentiment_assets.streaming.heartbeat import Phase, read_standby
from sentiment_assets.streaming.jvm import jvm
from sentiment_assets.streaming.mended_checkpoint import mend_checkpoint
from sentiment_assets.streaming.pairing import ensure_pair
from sentiment_assets.streaming.positions import committed_offsets, first_offsets
from sentiment_assets.streaming.progress import Batch, Progress
from sentiment_assets.streaming.pulse import Pulse
from sentiment_assets.streaming.query import planned, read_topic, start
from sentiment_assets.streaming.reports import Reports
from sentiment_assets.streaming.reset import finish_reset
from sentiment_assets.streaming.serving import Served, version_to_serve
from sentiment_assets.streaming.sink import Sink
from sentiment_assets.streaming.staging import commit_waiting, waiting_jobs
from sentiment_assets.streaming.warm_up import warm_up
from sentiment_assets.streaming.writing import serve_stream

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.2
_BOUNDARY_POLL_SECONDS = 0.02
_DEAD_LETTER_SECONDS = 5.0
_BOUNDARY_SECONDS = 60.0
_BOUNDARY_SECONDS_WHEN_ASKED = 12.0
_CARE_SECONDS = 60.0
_CARE_FAILS = "care for the tables"
_NEAR_SECONDS = 60.0
_STALL_SECONDS = 600.0
"""A batch that takes longer makes no progress: Kafka's client gives up after minutes, a full batch takes 20 s."""
_PIPELINE_MESSAGES = 50_000
"""Most messages of a batch that MLlib's stages score, some thousand a second: a stop waits for the batch."""


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
    model_version, scorer
        What scored, and which way: compiled or by its MLlib pipeline, and why.
    """

    rows: int
    dead: int
    seconds: float
    batches: int
    reason: str
    model_version: str
    scorer: str


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
    succeeds: str | None = None,
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
    succeeds
        Prepare everything first, then wait for the end of the stream of this run, which runs now (see ``handover``).

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
    write_no_checksum_files(spark)
    store = ModelStore(settings.models)
    version = version_to_serve(store, model_version)
    pulse = Pulse(spark, settings, run_id, lease, version, on_progress, standby=succeeds is not None)
    fixed = model_version is not None
    ends = Ends(lease_seconds, idle_seconds, until_drained, fixed, may_be_succeeded=lease is not None)
    served: Served | None = None
    with contextlib.ExitStack() as held:
        if succeeds is not None:
            held.enter_context(pulse.standing_by())
            after = Successor(
                spark,
                settings,
                store,
                pulse,
                version,
                succeeds=succeeds,
                model_is_fixed=fixed,
                should_stop=should_stop,
            )
            after.prepare()
            held.enter_context(after.turn())
            version, served = after.version, after.served
        else:
            held.enter_context(hold_stream_lock(spark, settings))
        for table in (PREDICTIONS, DEAD_LETTERS):
            # Where the JVM of the stream before died first, its Python process still learns of it.
            held.enter_context(writer_lock(settings.table(table.name), patience=PATIENCE_SECONDS))
        held.enter_context(pulse.last_word())
        return _Lease(spark, settings, store, pulse, ends, should_stop).run(version, served)


@dataclass(frozen=True)
class Ends:
    """What ends a lease by itself; see :func:`run_lease`."""

    lease_seconds: float
    idle_seconds: float
    until_drained: bool
    model_is_fixed: bool
    may_be_succeeded: bool = False


@dataclass(frozen=True)
class _Reason:
    """Why a lease ends; one that a person asked for ends quickly and is not followed by a successor."""

    text: str
    asked: bool = False


def _batch(settings: Settings, served: Served, partitions: int) -> int:
    """Most messages of one micro-batch: one more a partition, or Spark's rounding would leave a last batch of few."""
    at_most = settings.max_offsets_per_trigger
    at_most = min(at_most, _PIPELINE_MESSAGES) if isinstance(served.model, PipelineModel) else at_most
    return at_most + partitions


class _Lease:
    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        store: ModelStore,
        pulse: Pulse,
        ends: Ends,
        should_stop: Callable[[], str | None],
    ) -> None:
        self._spark, self._settings, self._store, self._pulse = spark, settings, store, pulse
        self._ends, self._should_stop = ends, should_stop
        self._cluster = Cluster("")
        self._dead = 0
        self._warm = True
        self._due_since: float | None = None
        self._care: Future[None] | None = None
        self._whole_care = False
        self._cared = time.monotonic()

    def run(self, version: str, served: Served | None = None) -> LeaseResult:
        pulse = self._pulse
        pulse.beat()
        finish_reset(self._settings)
        mend_checkpoint(self._settings)
        topic = self._reach_topic()
        pair = pulse.during(lambda: ensure_pair(self._settings, topic))
        if served is None:
            served = self._prepared(version)
        log.info("%s is scored by: %s; half the neutral band: %g", version, served.scorer, served.band)
        letters = self._resume_dead_letters(pair.pair_id)
        with explained():
            at_most = _batch(self._settings, served, len(self._available()))
            messages = read_topic(self._spark, self._settings, self._cluster, at_most=at_most)
            frame, self._sink = planned(messages, served, self._settings)
        with contextlib.closing(self._sink):
            reason = self._stream(frame, letters, version)
        self._complete(letters)
        pulse.progress = replace(pulse.progress, detail=reason.text)
        if not (reason.asked or self._ends.may_be_succeeded):
            pulse.enter(Phase.CARING, reason.text)
            pulse.during(self._care_for_tables)
        pulse.hands_over = not reason.asked
        done = pulse.progress
        return LeaseResult(
            done.rows,
            self._dead,
            round(done.seconds, 3),
            done.batches,
            reason.text,
            version,
            served.scorer,
        )

    def _stream(self, frame: DataFrame, letters: DeadLetters, version: str) -> _Reason:
        """Run the query until there is a reason to end; the sink has all that it committed when this returns."""
        with explained():
            query = start(frame, self._settings, self._sink)
        try:
            self._pulse.lease_ends = time.monotonic() + self._ends.lease_seconds
            if self._warm:
                self._say_ready()
            # Also in leases that are too short for care.
            self._care = self._pulse.beside(lambda: keep_logs_short(self._settings))
            reports = Reports(query, self._settings.topic)
            reason = self._follow(query, reports, letters, version)
            log.info("The lease ends: %s", reason.text)
            self._await_boundary(query, reports, letters, asked=reason.asked)
        except BaseException:
            with contextlib.suppress(StreamError):
                self._stop(query)
            raise
        self._stop(query)
        with explained():
            self._collect(reports, letters)
        self._end_care()
        return reason

    def _prepared(self, version: str) -> Served:
        """Load the model and warm the JVM."""
        served = self._pulse.during(lambda: serve_stream(self._spark, self._settings, version))
        self._pulse.progress = replace(self._pulse.progress, scorer=served.scorer)
        self._pulse.enter(Phase.WARMING_UP)
        available, committed = self._available(), committed_offsets(self._settings)
        if any(high > committed.get(part, low) for part, (low, high) in available.items()):
            # Real messages warm the JVM as well as made-up ones, and those that wait are scored sooner.
            self._warm = False
        else:
            self._pulse.during(lambda: warm_up(self._spark, self._settings, self._cluster, served, available))
        return served

    def _say_ready(self) -> None:
        """From now on a message is scored as soon as it comes."""
        self._warm = True
        self._pulse.progress = replace(self._pulse.progress, ready=True)
        self._pulse.enter(Phase.DRAINING if self._ends.until_drained else Phase.RUNNING)

    def _reach_topic(self) -> str:
        """Find the cluster, create the topic if it is not there, and return Kafka's id of it."""
        cluster = find_cluster(self._settings)
        if cluster is None:
            raise BrokerError(
                "No Kafka broker runs.",
                "Start one with `sentiment-assets kafka start`, or set SENTIMENT_KAFKA_BOOTSTRAP.",
            )
        self._cluster = cluster
        ensure_topic(cluster, self._settings.topic, self._settings.topic_partitions)
        found = topic_id(cluster, self._settings.topic)
        if found is None:
            raise BrokerError(f"The topic {self._settings.topic} was removed just now.", "Try again.")
        return found

    def _resume_dead_letters(self, pair_id: str) -> DeadLetters:
        """Take note of what an earlier lease committed past: its dead letters are written beside the first batches.

        Before them, they would keep the stream from scoring for 8 s after a crash (a JVM that has just started).
        """
        first, committed = first_offsets(self._settings), committed_offsets(self._settings)
        letters = DeadLetters(self._spark, self._settings, self._cluster, pair_id, first)
        letters.resume(committed)
        self._pulse.progress = replace(self._pulse.progress, offsets=committed)
        return letters

    def _follow(self, query: StreamingQuery, reports: Reports, letters: DeadLetters, version: str) -> _Reason:
        """Watch the query until there is a reason to end."""
        ready = last_data = progressed = caught_up = time.monotonic()
        while True:
            with explained():
                _raise_if_dead(query, self._sink)
                batches = self._collect(reports, letters)
                status = query.status
            now = time.monotonic()
            # A batch under way is not idleness, however long it takes.
            if status["isDataAvailable"] or any(batch.messages for batch in batches):
                last_data = self._pulse.last_message = now
            if batches or not status["isTriggerActive"]:
                progressed = now
            _raise_if_stalled(now - progressed)
            # One worker does both: behind a long care, letters would keep this loop from hearing of batches.
            if self._care is None and letters.due and now - caught_up >= _DEAD_LETTER_SECONDS:
                with _broker_may_be_silent():
                    self._complete(letters)
                caught_up = time.monotonic()
            reason = self._reason_at_once(now - ready, now - last_data, version)
            if reason is None and self._pulse.beat_if_due():
                letters.save()
                left = self._ends.lease_seconds - (now - ready)
                reason = self._reason_from_outside(version, due=left <= 0)
                self._sink.leaves_checksums = self._is_about_to_hand_over(left)
                self._look_after(now)
            if reason is not None:
                return reason
            time.sleep(_TICK_SECONDS)

    def _reason_at_once(self, age: float, idle: float, version: str) -> _Reason | None:
        """Reasons that cost nothing to look for."""
        asked = self._should_stop() or self._pulse.stop_requested()
        if asked:
            return _Reason(asked, asked=True)
        if age >= self._ends.lease_seconds:
            return self._unless_awaited("lease time is over", version, soon=False)
        if idle >= self._ends.idle_seconds:
            return _Reason(f"idle for {self._ends.idle_seconds:g} s")
        return None

    def _reason_from_outside(self, version: str, *, due: bool) -> _Reason | None:
        """Reasons found by asking the model store and the broker; ``due``: the lease's time is over as well."""
        newer = None if self._ends.model_is_fixed else self._newer_model(version)
        if newer is not None:
            return self._unless_awaited(f"newer model {newer}", newer, soon=True)
        if not due:
            # A newer model was taken back: the patience for a successor begins anew when there is a reason again.
            self._due_since = None
        if self._ends.until_drained:
            with _broker_may_be_silent():
                return _Reason("drained") if self._is_drained() else None
        return None

    def _unless_awaited(self, text: str, version: str, *, soon: bool) -> _Reason | None:
        """A lease that is due goes on while its successor prepares itself, for a while.

        Parameters
        ----------
        version
            The model that the successor should have loaded.
        soon
            The supervisor learns of it only now: wait even though no successor is there yet.
        """
        now = time.monotonic()
        if self._due_since is None:
            self._due_since = now
        standby = read_standby(self._settings) if self._ends.may_be_succeeded else None
        if not self._ends.may_be_succeeded or handover.is_ready(standby, version):
            return _Reason(text)
        patience = handover.APPEAR_SECONDS if soon else 0.0
        if handover.is_alive(standby):
            patience = handover.PREPARE_SECONDS
        return None if now - self._due_since < patience else _Reason(text)

    def _is_about_to_hand_over(self, left: float) -> bool:
        """Whether a successor prepares itself, and this lease (seconds ``left``) will not go on much longer."""
        near = min(_NEAR_SECONDS, self._ends.lease_seconds / 4)
        soon = self._due_since is not None or left < near
        return soon and self._ends.may_be_succeeded and handover.is_alive(read_standby(self._settings))

    def _look_after(self, now: float) -> None:
        """Care for the tables once a minute, and commit staged rows, beside the query; a full disk ends the lease.

        A lease that is about to hand over leaves the care to its successor: its end would be waited for.
        """
        if self._care is not None and self._care.done():
            self._settle(self._care.result)
        if self._care is not None:
            return
        if now - self._cared >= _CARE_SECONDS and not self._sink.leaves_checksums:
            self._cared, self._whole_care = now, True
            self._care = self._pulse.beside(self._care_for_tables)
        elif waiting_jobs(self._settings):
            self._care = self._pulse.beside(self._commit_waiting)

    def _settle(self, care: Callable[[], None]) -> None:
        """Scoring goes on without care for a while, which is better than a stream that restarts without end."""
        whole, self._whole_care = self._whole_care, False
        try:
            care()
        except (SentimentError, DeltaError, PySparkException, OSError) as error:
            if disk_is_full(error):
                raise
            log.warning("The care for the tables failed and is tried again: %s", first_line(error))
            alert(
                self._settings,
                _CARE_FAILS,
                f"The care for the stream's tables fails ({first_line(error)}); scoring goes on.",
            )
        else:
            if whole:
                clear(self._settings, _CARE_FAILS)
        finally:
            self._care = None

    def _care_for_tables(self) -> None:
        care_for_tables(self._spark, self._settings, self._sink)

    def _commit_waiting(self) -> None:
        with self._sink.left_to_spark():
            commit_waiting(self._spark, self._settings)

    def _newer_model(self, version: str) -> str | None:
        """Another version that is chosen now; a damaged pointer is no reason to stop scoring."""
        try:
            chosen = self._store.chosen()
        except ModelError as error:
            log.warning("%s", error)
            return None
        return None if chosen == version else chosen

    def _is_drained(self) -> bool:
        """Whether every message that the topic has now was part of a committed batch."""
        offsets = self._pulse.progress.offsets
        return all(offsets.get(part, low) >= high for part, (low, high) in self._available().items())

    def _await_boundary(
        self, query: StreamingQuery, reports: Reports, letters: DeadLetters, *, asked: bool
    ) -> None:
        """Wait until right after a commit, so that no work is thrown away; not longer than a deadline."""
        deadline = time.monotonic() + (_BOUNDARY_SECONDS_WHEN_ASKED if asked else _BOUNDARY_SECONDS)
        with explained():
            while time.monotonic() < deadline:
                _raise_if_dead(query, self._sink)
                if self._collect(reports, letters) or not query.status["isTriggerActive"]:
                    break
                self._pulse.beat_if_due()
                time.sleep(_BOUNDARY_POLL_SECONDS)

    def _stop(self, query: StreamingQuery) -> None:
        """Stop the query; one that does not end takes its JVM along: nothing may write once the lock is given back."""
        ended = False
        try:
            with explained():
                query.stop()
            ended = True
        finally:
            if not ended:
                self._sink.close()
                log.warning("The query has not ended, so its JVM is.")
                # Before the lock is free: a successor must not take this for a stream that hands over.
                self._pulse.say_stopped("its query did not end")
                # Halting is answered by a broken connection.
                with contextlib.suppress(Py4JError, ConnectionError):
                    jvm(self._spark).java.lang.Runtime.getRuntime().halt(1)

    def _end_care(self) -> None:
        """Begin no new care; what is under way, a compaction or a commit of staged rows, comes to its end."""
        if (care := self._care) is not None:
            self._settle(lambda: self._pulse.finish(care))

    def _collect(self, reports: Reports, letters: DeadLetters) -> list[Batch]:
        """Take newly committed batches into account."""
        batches = [self._sink.counted(batch) for batch in reports.fresh()]
        for batch in batches:
            self._pulse.progress = self._pulse.progress.add(batch)
            letters.note(batch)
        # A batch that the table had already counts no messages.
        if not self._warm and any(batch.end != batch.start for batch in batches):
            self._say_ready()
        return batches

    def _complete(self, letters: DeadLetters) -> None:
        """Write the dead letters that are due."""
        if letters.due:
            available = self._available()
            self._dead += self._pulse.during(lambda: letters.catch_up(available))
        letters.save()

    def _available(self) -> dict[int, tuple[int, int]]:
        return watermarks(self._cluster, self._settings.topic)


@contextlib.contextmanager
def _broker_may_be_silent() -> Iterator[None]:
    """Put off what needs the broker: Spark itself waits six minutes for it, and so must we."""
    try:
        yield
    except BrokerError as error:
        log.warning("%s", error)


def _raise_if_dead(query: StreamingQuery, sink: Sink) -> None:
    if not query.isActive:
        raise sink.failure or death_of(query)


def _raise_if_stalled(seconds: float) -> None:
    if seconds > _STALL_SECONDS:
        raise StreamError(
            f"A batch has made no progress for {_STALL_SECONDS:.0f} s.",
            "Read the end of SENTIMENT_HOME/logs/spark-stream.log; the stream goes on where it stopped.",
        )
