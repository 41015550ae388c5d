"""``predictions`` and ``dead_letters``: the leased stream, and the sensor that keeps it alive."""

import logging
import time
from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetObservation,
    AssetSpec,
    Config,
    DagsterError,
    DagsterInstance,
    DefaultSensorStatus,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    multi_asset,
    sensor,
)
from pydantic import Field
from sqlalchemy.exc import SQLAlchemyError

from sentiment_assets import keys
from sentiment_assets.defs.jobs import score_stream
from sentiment_assets.defs.presentation import table_metadata
from sentiment_assets.failures import SentimentError
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.kafka import KafkaResource
from sentiment_assets.resources.orphans import end_silent_process, fail_orphaned_runs, process_tags
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.resources.stream_runs import stream_runs
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings, is_local
from sentiment_assets.spark import delta
from sentiment_assets.streaming import heartbeat as heartbeats
from sentiment_assets.streaming.alerts import alert, clear
from sentiment_assets.streaming.handover import StoodDownError
from sentiment_assets.streaming.latency import VisibleLatency, visible_latency
from sentiment_assets.streaming.lease import run_lease
from sentiment_assets.streaming.progress import Progress
from sentiment_assets.streaming.supervisor import (
    Launch,
    Reap,
    RunRecord,
    RunStatus,
    Situation,
    Skip,
    SupervisorPolicy,
    decide,
)

log = logging.getLogger(__name__)

_OBSERVE_SECONDS = 60.0
_TAG_SECONDS = 5.0
_NOT_KNOWN = "what the stream needs cannot be read"
_FAILS_OFTEN = "the stream fails again and again"
_OFTEN, _OFTEN_SECONDS = 5, 3_600


class LeaseConfig(Config):
    """One lease of the stream."""

    lease_seconds: int | None = Field(
        default=None, ge=1, description="Longest life. Empty: SENTIMENT_LEASE_SECONDS."
    )
    idle_seconds: int | None = Field(
        default=None, ge=1, description="End when no message came for so long. Empty: SENTIMENT_IDLE_SECONDS."
    )
    until_drained: bool = Field(default=False, description="End as soon as every message is scored.")
    model_version: str | None = Field(default=None, description="Empty: the chosen model.")


_DEPS = [AssetKey(keys.CHOSEN_MODEL), AssetKey(keys.TWEETS_TOPIC)]


@multi_asset(
    name="stream",
    specs=[
        AssetSpec(
            keys.PREDICTIONS,
            deps=_DEPS,
            kinds={"kafka", "spark", "deltalake"},
            description="The scored tweets, each message exactly once. Written by a streaming run that lives "
            "for one lease; the sensor `stream_supervisor` launches the next one and restarts a dead one.",
            metadata=table_metadata(PREDICTIONS),
            code_version="1",
            skippable=True,  # a successor that is not needed writes nothing
            group_name=keys.GROUP_STREAM,
            owners=[keys.OWNER_DATA],
        ),
        AssetSpec(
            keys.DEAD_LETTERS,
            deps=_DEPS,
            kinds={"kafka", "deltalake"},
            description="Messages that could not be scored, whole, with the reason.",
            metadata=table_metadata(DEAD_LETTERS),
            code_version="1",
            skippable=True,  # a successor that is not needed writes nothing
            group_name=keys.GROUP_STREAM,
            owners=[keys.OWNER_DATA],
        ),
    ],
)
def stream(
    context: AssetExecutionContext,
    config: LeaseConfig,
    settings: ResourceParam[Settings],
    stream_spark: ResourceParam[SparkResource],
) -> Iterator[MaterializeResult[Any]]:
    """Score the topic for one lease; the tables are committed batch by batch meanwhile."""
    tag = context.run.tags.get(keys.TAG_LEASE)
    # Its role too: a run from the asset graph is no job of ours, and the supervisor must know it as a stream.
    role = {keys.TAG_ROLE: keys.JOB_SCORE_STREAM}
    context.instance.add_run_tags(context.run.run_id, role | process_tags(context.run.run_id))
    reporter = _Reporter(context, settings)
    try:
        result = run_lease(
            stream_spark.session(),
            settings,
            model_version=config.model_version,
            lease_seconds=config.lease_seconds or settings.lease_seconds,
            idle_seconds=config.idle_seconds or settings.idle_seconds,
            until_drained=config.until_drained,
            run_id=context.run.run_id,
            lease=int(tag) if tag else None,
            on_progress=reporter,
            should_stop=lambda: None,
            # A run that is executed again in the UI has the tag as a copy: it succeeds nobody.
            succeeds=None if context.run.parent_run_id else context.run.tags.get(keys.TAG_SUCCEEDS),
        )
    except StoodDownError as error:
        context.instance.add_run_tags(context.run.run_id, {keys.TAG_STOOD_DOWN: "true"})
        context.log.info(str(error))
        return
    context.log.info(f"The lease ended: {result.reason}.")
    common = {
        "model_version": MetadataValue.text(result.model_version),
        "scorer": MetadataValue.text(result.scorer),
        "reason": MetadataValue.text(result.reason),
    }
    for table, rows in ((PREDICTIONS, result.rows), (DEAD_LETTERS, result.dead)):
        path = settings.table(table.name)
        files = delta.file_stats(path)
        yield MaterializeResult(
            asset_key=table.name,
            metadata={
                **common,
                "rows_of_this_lease": MetadataValue.int(rows),
                "seconds": MetadataValue.float(round(result.seconds, 1)),
                "batches": MetadataValue.int(result.batches),
                "dagster/row_count": MetadataValue.int(delta.row_count(path)),
                "table_version": MetadataValue.int(delta.table_version(path)),
                "files": MetadataValue.int(files.files),
                "megabytes": MetadataValue.float(round(files.bytes / 2**20, 1)),
                "dagster/uri": MetadataValue.path(str(path)),
            },
        )


class _Reporter:
    """Notes the stream's figures in the event log, at most once a minute: its rows are never purged."""

    def __init__(self, context: AssetExecutionContext, settings: Settings) -> None:
        self._context = context
        self._table = settings.table(PREDICTIONS.name)
        self._last = 0.0
        self._tagged, self._tried = False, -_TAG_SECONDS
        self._before = Progress(heartbeats.Phase.STARTING, "")
        self._since = time.time()

    def __call__(self, progress: Progress) -> None:
        if progress.batches > 0 and not self._tagged and time.monotonic() - self._tried >= _TAG_SECONDS:
            self._tag(progress)
        if progress.rows == 0:
            # It starts, or stands by beside the stream that scores.
            self._since = time.time()
        if time.monotonic() - self._last < _OBSERVE_SECONDS or progress.rows == 0:
            return
        try:
            self._observe(progress)
        except (DagsterError, SQLAlchemyError, OSError) as error:
            # Dagster's database is away, or the disk is full: no reason to stop scoring.
            self._last = time.monotonic()
            log.warning("The stream's figures cannot be noted (%s).", type(error).__name__)

    def _tag(self, progress: Progress) -> None:
        """What the supervisor has to know; tried again, since it would take the run for one that never began."""
        self._tried = time.monotonic()
        tags = {keys.TAG_MODEL: progress.model_version, keys.TAG_PROGRESSED: "true"}
        try:
            self._context.instance.add_run_tags(self._context.run.run_id, tags)
            self._tagged = True
        except (DagsterError, SQLAlchemyError, OSError) as error:
            log.warning("The run cannot be tagged (%s); it is tried again.", type(error).__name__)

    def _observe(self, progress: Progress) -> None:
        self._last = time.monotonic()
        figures = self._figures(progress)
        self._context.log_event(
            AssetObservation(
                asset_key=AssetKey(keys.PREDICTIONS),
                metadata={
                    name: MetadataValue.float(round(float(value), 4))
                    for name, value in figures.items()
                    if value is not None
                },
            )
        )

    def _figures(self, progress: Progress) -> dict[str, float | int | None]:
        """Of the time since the last observation; latency is that of each row, as the table's commits show it."""
        now, before = time.time(), self._before
        rows, dead = progress.rows - before.rows, progress.dead - before.dead
        # An object store does not tell when a commit became visible.
        local = is_local(self._table)
        latency = visible_latency(self._table, since=self._since) if local else VisibleLatency(0)
        figures = {
            "lag": progress.lag,
            "rows": rows,
            "rows_per_second": rows / max(1.0, now - self._since),
            "visible_latency_p50_seconds": latency.p50,
            "visible_latency_p95_seconds": latency.p95,
            "share_positive": (progress.positives - before.positives) / rows if rows else None,
            "share_dead_letters": dead / (rows + dead) if rows + dead else None,
            "rows_of_this_lease": progress.rows,
        }
        self._before, self._since = progress, now
        return figures


def supervisor_sensor(settings: Settings) -> SensorDefinition:
    """The sensor that keeps the lease renewed; what it does is :func:`~..streaming.supervisor.decide`'s."""

    @sensor(
        name=keys.SENSOR_SUPERVISOR,
        job=score_stream,
        minimum_interval_seconds=settings.supervisor_interval_seconds,
        default_status=DefaultSensorStatus.RUNNING,
        description="Keeps one streaming run alive while messages wait: launches the next lease, restarts a "
        "dead run with growing pauses, respects a person's cancel (switch this sensor off and on to resume).",
    )
    def stream_supervisor(
        context: SensorEvaluationContext,
        settings: ResourceParam[Settings],
        model_store: ResourceParam[ModelStore],
        kafka: ResourceParam[KafkaResource],
    ) -> RunRequest | SkipReason:
        fail_orphaned_runs(context.instance)
        runs = stream_runs(context.instance)
        model, lag, unknown = None, None, ""
        try:
            model, lag = model_store.chosen(), kafka.lag()
        except SentimentError as error:
            # What runs is looked after all the same.
            unknown = str(error)
            alert(settings, _NOT_KNOWN, f"the stream cannot be supervised: {error}")
        else:
            clear(settings, _NOT_KNOWN)
        decision = decide(
            time.time(),
            runs,
            heartbeats.read_heartbeat(settings),
            model,
            lag,
            SupervisorPolicy.from_settings(settings, context.last_sensor_start_time),
            heartbeats.read_standby(settings),
        )
        _tell_of_failures(settings, runs)
        match decision:
            case Launch():
                return RunRequest(
                    run_key=decision.run_key,
                    tags={
                        keys.TAG_LEASE: str(decision.lease),
                        keys.TAG_ATTEMPT: str(decision.attempt),
                        keys.TAG_REASON: decision.reason,
                    }
                    | ({} if decision.succeeds is None else {keys.TAG_SUCCEEDS: decision.succeeds}),
                )
            case Reap():
                _reap(context.instance, decision)
                return SkipReason(f"{decision.reason} It is marked as ended; the next tick launches anew.")
            case Skip():
                if decision.situation is Situation.CIRCUIT_OPEN:
                    alert(settings, f"circuit open since {runs[0].run_id}", decision.reason)
                return SkipReason(unknown if unknown and decision.is_idle else decision.reason)

    return stream_supervisor


def _tell_of_failures(settings: Settings, runs: list[RunRecord]) -> None:
    """A stream that recovers each time opens no circuit; that it fails so often is worth a person's look."""
    now = time.time()
    # Those that never scored open the circuit, which is told as that.
    failed = [
        run
        for run in runs
        if run.status is RunStatus.FAILURE and run.progressed and now - run.last_change < _OFTEN_SECONDS
    ]
    if len(failed) >= _OFTEN:
        alert(
            settings,
            _FAILS_OFTEN,
            f"{len(failed)} runs of the stream failed within an hour, the last was {failed[0].run_id[:8]}.",
        )
    elif not failed:
        clear(settings, _FAILS_OFTEN)


def _reap(instance: DagsterInstance, decision: Reap) -> None:
    """End the silent process, then record the run's end; the other order would let two streams write."""
    if decision.heartbeat is not None:
        end_silent_process(decision.heartbeat.pid, decision.heartbeat.create_time)
    run = instance.get_run_by_id(decision.run_id)
    if run is None or run.is_finished:
        return
    if decision.canceled:
        instance.report_run_canceled(run, decision.reason)
    else:
        instance.report_run_failed(run, decision.reason)
