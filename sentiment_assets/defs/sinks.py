"""``sinks/postgres`` and ``sinks/mongodb``: databases behind the predictions, where settings switch them on."""

import threading
import time
from typing import TYPE_CHECKING

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetObservation,
    AssetsDefinition,
    AssetSelection,
    Config,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    asset,
    define_asset_job,
    sensor,
)
from pydantic import Field

from sentiment_assets import keys
from sentiment_assets.defs.presentation import table_metadata
from sentiment_assets.failures import TableError
from sentiment_assets.resources.orphans import note_process, own_tag
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.sinks.base import SinkAwayError, SinkError
from sentiment_assets.sinks.configured import configured_names, make_sink
from sentiment_assets.sinks.follow import Followed, count_rows, follow, read_followed
from sentiment_assets.sinks.launching import PastRun, nothing_to_do, reason_to_wait

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

_TITLES = {"postgres": "PostgreSQL", "mongodb": "MongoDB"}
_OBSERVE_SECONDS = 60.0
_TICK_SECONDS = 15
_RUNS_LOOKED_AT = 10


class FollowConfig(Config):
    """One run of a sink."""

    lease_seconds: int | None = Field(
        default=None, ge=1, description="Longest life. Empty: SENTIMENT_LEASE_SECONDS."
    )
    idle_seconds: int = Field(default=60, ge=0, description="End when nothing new came for so long.")
    resync: bool = Field(default=False, description="Empty the sink first and copy the table anew.")


def sink_assets(settings: Settings) -> list[AssetsDefinition]:
    """An asset for each sink that is switched on."""
    return [_sink_asset(name) for name in configured_names(settings)]


def sink_jobs(settings: Settings) -> "list[UnresolvedAssetJobDefinition]":
    """A job for each sink that is switched on."""
    return [
        define_asset_job(
            _role(name),
            AssetSelection.assets([keys.SINKS, name]),
            description=f"{_TITLES[name]} follows the predictions for one lease; the sensor launches it.",
            tags={keys.TAG_ROLE: _role(name)},
        )
        for name in configured_names(settings)
    ]


def sink_sensors(settings: Settings, jobs: "list[UnresolvedAssetJobDefinition]") -> list[SensorDefinition]:
    """The sensor that launches the jobs; none when no sink is switched on."""
    names = configured_names(settings)
    if not names:
        return []

    @sensor(
        name=keys.SENSOR_SINKS,
        jobs=jobs,
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Launches a run for each sink that is behind the predictions; waits while its database is "
        "down, and longer after each failure. Respects a person's cancel (switch it off and on to resume).",
    )
    def sink_follower(
        context: SensorEvaluationContext, settings: ResourceParam[Settings]
    ) -> SensorResult | SkipReason:
        requests, reasons = [], []
        for name in names:
            reason = _reason_to_wait(context.instance, settings, name, context.last_sensor_start_time)
            if reason is None:
                requests.append(RunRequest(job_name=_role(name), tags={keys.TAG_ROLE: _role(name)}))
            else:
                reasons.append(f"{name}: {reason}")
        return SensorResult(run_requests=requests) if requests else SkipReason("; ".join(reasons))

    return [sink_follower]


def _reason_to_wait(
    instance: DagsterInstance, settings: Settings, name: str, switched_on_at: float | None
) -> str | None:
    # The runs first: in the normal case one follows, and no database has to be asked.
    if (reason := reason_to_wait(time.time(), _past_runs(instance, name), switched_on_at)) is not None:
        return reason
    try:
        state = read_followed(make_sink(settings, name), settings.table(PREDICTIONS.name))
    except (SinkAwayError, SinkError, TableError) as error:
        return str(error)
    return nothing_to_do(state.lag_versions)


def _past_runs(instance: DagsterInstance, name: str) -> list[PastRun]:
    records = instance.get_run_records(RunsFilter(tags={keys.TAG_ROLE: _role(name)}), limit=_RUNS_LOOKED_AT)
    return [
        PastRun(
            run_id=record.dagster_run.run_id,
            finished=record.dagster_run.is_finished,
            failed=record.dagster_run.status == DagsterRunStatus.FAILURE,
            canceled=record.dagster_run.status == DagsterRunStatus.CANCELED,
            ended_at=record.end_time,
        )
        for record in records
        # One that ended with the main job has not failed.
        if own_tag(record.dagster_run, keys.TAG_STOOD_DOWN) is None or not record.dagster_run.is_finished
    ]


def _role(name: str) -> str:
    return f"{keys.ROLE_OF_SINK}{name}"


def _sink_asset(name: str) -> AssetsDefinition:
    key = AssetKey([keys.SINKS, name])

    @asset(
        key=key,
        deps=[AssetKey(keys.PREDICTIONS)],
        group_name=keys.GROUP_SINKS,
        kinds={name},
        owners=[keys.OWNER_DATA],
        code_version="1",
        description=f"The predictions in {_TITLES[name]}, each row exactly once. Follows the Delta table commit by "
        "commit; when the database is down, the stream does not notice and the sink catches up later.",
        metadata=table_metadata(PREDICTIONS),
    )
    def sink(
        context: AssetExecutionContext, config: FollowConfig, settings: ResourceParam[Settings]
    ) -> MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
        note_process(context.instance, context.run.run_id)
        with only_one(settings, f"sink {name}"):
            database = make_sink(settings, name)
            followed = follow(
                database,
                settings.table(PREDICTIONS.name),
                threading.Event(),
                resync=config.resync,
                seconds=config.lease_seconds or settings.lease_seconds,
                idle_seconds=config.idle_seconds,
                on_progress=_Observer(context, key),
            )
        return MaterializeResult(
            metadata={
                "dagster/row_count": MetadataValue.int(count_rows(database)),
                "where": MetadataValue.text(database.where),
                **_metadata(followed),
            }
        )

    return sink


class _Observer:
    """Notes lag and batch size in the event log, at most once a minute: its rows are never purged."""

    def __init__(self, context: AssetExecutionContext, key: AssetKey) -> None:
        self._context = context
        self._key = key
        self._noted = time.monotonic()

    def __call__(self, followed: Followed) -> None:
        if time.monotonic() - self._noted < _OBSERVE_SECONDS:
            return
        self._noted = time.monotonic()
        self._context.log_event(AssetObservation(asset_key=self._key, metadata=_metadata(followed)))


def _metadata(followed: Followed) -> dict[str, MetadataValue]:
    figures: dict[str, MetadataValue] = {
        "rows_of_this_run": MetadataValue.int(followed.rows),
        "batches": MetadataValue.int(followed.batches),
        "rows_per_batch": MetadataValue.float(round(followed.rows / max(1, followed.batches), 1)),
        "rows_per_second": MetadataValue.float(round(followed.rows / max(followed.seconds, 1e-9), 1)),
    }
    versions = {
        "table_version": followed.table_version,
        "sink_version": followed.version,
        "lag_versions": followed.lag_versions,
    }
    return figures | {k: MetadataValue.int(v) for k, v in versions.items() if v is not None}
