"""Which training assets are still those of today's data, code and configuration, and which have to be made anew.

Dagster records with each materialization the versions of its code and of everything it was made from; the run that
made it has the configuration. What agrees with today's is kept, so a training that was killed goes on where it was.
Belongs here: the comparison with Dagster's records. Does not belong here: files (``artefacts``), runs (``training``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterInvalidConfigError,
    Definitions,
    EventLogRecord,
    JobDefinition,
    validate_run_config,
)

from sentiment_assets import keys

# Dagster's own tags on a materialization, as its documentation and its UI name them.
_CODE_VERSION = "dagster/code_version"
_DATA_VERSION = "dagster/data_version"
_INPUT_VERSION = "dagster/input_data_version/"
_NO_INPUT = (None, "INITIAL")

# Its version says which rows of which content these are, wherever the file lies by now.
_SAID_BY_THE_VERSION = {keys.RAW_TWEETS: {"data", "rows", "encoding"}}


@dataclass(frozen=True)
class Plan:
    """What a training run does.

    Parameters
    ----------
    train
        Assets to make, upstream first, with the reason of each.
    kept
        Assets that are as a new run would make them.
    """

    train: Mapping[AssetKey, str]
    kept: tuple[AssetKey, ...]


def train_all(job: JobDefinition, selected: set[AssetKey], reason: str) -> Plan:
    """The plan that keeps nothing."""
    return Plan({key: reason for key in _upstream_first(job) if key in selected}, ())


def plan_training(
    definitions: Definitions,
    job: JobDefinition,
    instance: DagsterInstance,
    *,
    run_config: Mapping[str, Any],
    selected: set[AssetKey],
    unlike_now: Callable[[AssetKey, AssetMaterialization], str | None],
) -> Plan:
    """Compare the latest materialization of each asset with what a run would make now.

    Parameters
    ----------
    definitions, job, instance
        What can be made, by which job, and where it is recorded.
    run_config
        Of the run that is planned.
    selected
        Assets in question; all others are taken as they are.
    unlike_now
        Asked last: how the asset differs from what its materialization says, or from what the outside world has
        by now; ``None`` when it does not.
    """
    past = _Past(definitions, job, instance)
    wanted = _op_configs(job, run_config)
    train: dict[AssetKey, str] = {}
    for key in _upstream_first(job):
        if key not in selected or key in train:
            continue
        # Assets of one step are made together or not at all.
        together = past.graph.get(key).execution_set_asset_keys
        reasons = (
            reason
            for member in sorted(together)
            for reason in _reasons(past, member, train, wanted, unlike_now)
        )
        if (reason := next(reasons, None)) is not None:
            train |= dict.fromkeys(sorted(together), reason)
    return Plan(train, tuple(key for key in _upstream_first(job) if key in selected and key not in train))


def config_of_steps(
    definitions: Definitions, run_config: Mapping[str, Any], assets: Iterable[AssetKey]
) -> dict[str, Any]:
    """The part of a run configuration that belongs to the steps of these assets; Dagster refuses any other."""
    steps = {definitions.resolve_assets_def(key).op.name for key in assets}
    return {"ops": {name: config for name, config in run_config.get("ops", {}).items() if name in steps}}


def data_version(made: AssetMaterialization) -> str | None:
    """The data version that a materialization was recorded with."""
    return (made.tags or {}).get(_DATA_VERSION)


def _reasons(
    past: "_Past",
    key: AssetKey,
    train: Mapping[AssetKey, str],
    wanted: Mapping[str, Any],
    unlike_now: Callable[[AssetKey, AssetMaterialization], str | None],
) -> Iterator[str]:
    """Why an asset has to be made, the plainest reason first."""
    record = past.record(key)
    made = record.asset_materialization if record else None
    if record is None or made is None:
        yield "not there yet"
        return
    tags = made.tags or {}
    node = past.graph.get(key)
    if tags.get(_CODE_VERSION) != node.code_version:
        yield "its code has changed"
    for parent in sorted(node.parent_keys):
        recorded = tags.get(_INPUT_VERSION + parent.to_user_string())
        if parent in train:
            yield f"{parent.to_user_string()} is made"
        elif recorded != past.version(parent) and not (
            recorded in _NO_INPUT and past.version(parent) is None
        ):
            yield f"{parent.to_user_string()} has changed"
    if past.config(key, record.run_id) != past.relevant(key, wanted):
        yield "its configuration has changed"
    yield from past.open_checks(key, record)
    if (reason := unlike_now(key, made)) is not None:
        yield reason


class _Past:
    """What the instance has recorded, read once an asset and once a run."""

    def __init__(self, definitions: Definitions, job: JobDefinition, instance: DagsterInstance) -> None:
        self.graph = job.asset_layer.asset_graph
        self._definitions, self._job, self._instance = definitions, job, instance
        self._records: dict[AssetKey, EventLogRecord | None] = {}
        self._configs: dict[str, Mapping[str, Any] | None] = {}

    def record(self, key: AssetKey) -> EventLogRecord | None:
        if key not in self._records:
            records = self._instance.fetch_materializations(key, limit=1).records
            self._records[key] = records[0] if records else None
        return self._records[key]

    def version(self, key: AssetKey) -> str | None:
        record = self.record(key)
        made = record.asset_materialization if record else None
        return None if made is None else data_version(made)

    def config(self, key: AssetKey, run_id: str) -> Any:
        """Configuration of an asset's step in a past run, completed by today's defaults."""
        if run_id not in self._configs:
            run = self._instance.get_run_by_id(run_id)
            self._configs[run_id] = None if run is None else _op_configs(self._job, run.run_config)
        found = self._configs[run_id]
        return None if found is None else self.relevant(key, found)

    def relevant(self, key: AssetKey, configs: Mapping[str, Any]) -> Any:
        step = self._definitions.resolve_assets_def(key).op.name
        config = configs.get(step)
        left_out = _SAID_BY_THE_VERSION.get(key.to_user_string(), set())
        return (
            {name: value for name, value in config.items() if name not in left_out}
            if isinstance(config, Mapping)
            else config
        )

    def open_checks(self, key: AssetKey, record: EventLogRecord) -> Iterator[str]:
        """Blocking checks that have not found this very materialization good: nothing may be built on it."""
        blocking = [check for check in self.graph.get(key).check_keys if self.graph.get(check).blocking]
        found = self._instance.event_log_storage.get_latest_asset_check_execution_by_key(blocking)
        for check in blocking:
            execution = found.get(check)
            event = execution.event.dagster_event if execution and execution.event else None
            evaluation = event.event_specific_data if event else None
            target = (
                evaluation.target_materialization_data
                if isinstance(evaluation, AssetCheckEvaluation) and evaluation.passed
                else None
            )
            if target is None or target.storage_id != record.storage_id:
                yield f"its check {check.name} has not passed"


def _upstream_first(job: JobDefinition) -> Sequence[AssetKey]:
    return job.asset_layer.asset_graph.toposorted_asset_keys


def _op_configs(job: JobDefinition, run_config: Mapping[str, Any]) -> dict[str, Any]:
    """Complete configuration by step; a step whose configuration is not understood any more is left out."""
    known = {node.name for node in job.nodes}
    stated = {name: config for name, config in run_config.get("ops", {}).items() if name in known}
    try:
        resolved = validate_run_config(job, {"ops": stated})["ops"]
    except DagsterInvalidConfigError:
        understood = validate_run_config(job, {})["ops"]
        resolved = {name: config for name, config in understood.items() if name not in stated}
    return {name: config["config"] for name, config in resolved.items()}
