"""The sensor that keeps the stream alive, against a real Dagster instance and its run records."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psutil
import pyarrow as pa
import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    RunRequest,
    SensorDefinition,
    SkipReason,
    build_sensor_context,
    instance_for_test,
)
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.test_utils import create_run_for_test
from deltalake import DeltaTable, write_deltalake

from sentiment_assets import keys
from sentiment_assets.build import build_definitions, build_resources
from sentiment_assets.defs.checks import few_messages_are_dead_letters, required_columns_are_filled
from sentiment_assets.local.instance import open_instance
from sentiment_assets.local.stopping import end_stream, reason_to_stay_down
from sentiment_assets.models.manifest import Draft, Source
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.orphans import fail_orphaned_runs
from sentiment_assets.resources.stream_runs import stream_runs
from sentiment_assets.runtime.identity import process_is_gone, process_tag, start_of
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.mending import DeadLetter
from sentiment_assets_tests.letters import put_aside
from sentiment_assets_tests.peers.predictions import rows
from sentiment_assets_tests.webhook import listening, with_webhook

GOES_ON = """
import time
print("begun", flush=True)
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with instance_for_test() as made:
        yield made


def supervisor(settings: Settings) -> SensorDefinition:
    found = next(s for s in build_definitions(settings).sensors or [] if s.name == keys.SENSOR_SUPERVISOR)
    assert isinstance(found, SensorDefinition)
    return found


def tick(settings: Settings, instance: DagsterInstance) -> RunRequest | SkipReason:
    needed = ("settings", "model_store", "kafka")
    resources = {name: build_resources(settings)[name] for name in needed}
    answer = supervisor(settings)(build_sensor_context(instance=instance, resources=resources))
    assert isinstance(answer, RunRequest | SkipReason)
    return answer


def test_without_a_model_the_sensor_says_what_to_materialize(
    settings: Settings, instance: DagsterInstance
) -> None:
    answer = tick(settings, instance)
    assert isinstance(answer, SkipReason)
    assert "chosen_model" in (answer.skip_message or "")


def test_without_a_broker_the_sensor_names_the_command(settings: Settings, instance: DagsterInstance) -> None:
    store = ModelStore(settings.models)
    draft = Draft(
        kind="candidate",
        name="tiny",
        variant="tiny",
        source=Source(kind="generated", file="none", note="made up"),
        rows_train=1,
        data_version="1",
        code_version="1",
        seed=1,
    )
    store.promote(store.save(draft, lambda folder: (folder / "pipeline").mkdir()).version, "test")
    answer = tick(settings, instance)
    assert isinstance(answer, SkipReason)
    assert "sentiment-assets status" in (answer.skip_message or "")


def test_a_damaged_pointer_to_the_model_is_said_and_told_and_what_runs_is_looked_after(
    settings: Settings, instance: DagsterInstance
) -> None:
    (settings.models / "chosen.json").write_text("{")
    orphan = create_run_for_test(
        instance,
        job_name=keys.JOB_SCORE_STREAM,
        status=DagsterRunStatus.STARTED,
        tags={keys.TAG_ROLE: keys.JOB_SCORE_STREAM},
    )
    with listening() as webhook:
        watched = with_webhook(settings, webhook.url)
        first = tick(watched, instance)
        instance.report_run_failed(orphan)
        second = tick(watched, instance)
    assert isinstance(first, SkipReason)
    assert orphan.run_id[:8] in (first.skip_message or "")
    assert isinstance(second, SkipReason)
    assert "chosen.json" in (second.skip_message or "")
    (told,) = webhook.got
    assert "chosen.json" in told["text"]


def test_a_stream_that_fails_often_is_told_although_it_recovers(
    settings: Settings, instance: DagsterInstance
) -> None:
    for lease in range(1, 6):
        run = create_run_for_test(
            instance,
            job_name=keys.JOB_SCORE_STREAM,
            status=DagsterRunStatus.STARTED,
            tags={keys.TAG_ROLE: keys.JOB_SCORE_STREAM, keys.TAG_LEASE: str(lease)},
        )
        instance.add_run_tags(run.run_id, {keys.TAG_RUN: run.run_id, keys.TAG_PROGRESSED: "true"})
        instance.report_run_failed(run)
    with listening() as webhook:
        for _ in range(2):
            tick(with_webhook(settings, webhook.url), instance)
    (told,) = webhook.got
    assert "5 runs of the stream failed within an hour" in told["text"]


def test_the_end_of_the_main_job_is_no_failure_of_what_it_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _instance_of(settings, monkeypatch) as instance:
        starting, canceled = (
            create_run_for_test(
                instance,
                job_name=keys.JOB_SCORE_STREAM,
                status=status,
                tags={keys.TAG_ROLE: keys.JOB_SCORE_STREAM, keys.TAG_LEASE: str(lease)},
            )
            for lease, status in enumerate((DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING), 1)
        )
        end_stream(settings, "the main job ends", 1)
        instance.report_run_failed(starting)
        instance.report_run_canceled(canceled)
        records = {record.run_id: record for record in stream_runs(instance)}
        assert records[starting.run_id].stood_down
        assert not records[canceled.run_id].stood_down


def test_why_the_stream_stays_down_until_a_person_acts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _instance_of(settings, monkeypatch) as instance:
        assert reason_to_stay_down(settings, instance) is None
        run = create_run_for_test(
            instance,
            job_name=keys.JOB_SCORE_STREAM,
            status=DagsterRunStatus.STARTED,
            tags={keys.TAG_ROLE: keys.JOB_SCORE_STREAM, keys.TAG_LEASE: "1"},
        )
        assert reason_to_stay_down(settings, instance) is None
        instance.report_run_canceled(run)
        assert "cancelled by a person" in (reason_to_stay_down(settings, instance) or "")


def test_an_open_circuit_is_told_to_the_webhook_once(settings: Settings, instance: DagsterInstance) -> None:
    for lease in range(1, 6):
        create_run_for_test(
            instance,
            job_name=keys.JOB_SCORE_STREAM,
            status=DagsterRunStatus.FAILURE,
            tags={keys.TAG_ROLE: keys.JOB_SCORE_STREAM, keys.TAG_LEASE: str(lease)},
        )
    with listening() as webhook:
        watched = with_webhook(settings, webhook.url)
        answers = [tick(watched, instance) for _ in range(2)]
    assert all(isinstance(answer, SkipReason) for answer in answers)
    (told,) = webhook.got
    assert "The circuit is open: 5 runs failed in a row" in told["text"]


@pytest.mark.parametrize(
    ("dead", "passed", "severity"),
    [
        (0, True, AssetCheckSeverity.WARN),
        (5, False, AssetCheckSeverity.WARN),
        (50, False, AssetCheckSeverity.ERROR),
    ],
)
def test_many_dead_letters_warn_and_too_many_fail(
    settings: Settings, dead: int, passed: bool, severity: AssetCheckSeverity
) -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    put_aside(settings, [DeadLetter("tweets", 0, n, now, "not JSON", None, b"x") for n in range(dead)])
    rows = {"topic": ["tweets"] * 100, "kafka_timestamp": pa.array([now] * 100, pa.timestamp("us", "UTC"))}
    write_deltalake(str(settings.table("predictions")), pa.table(rows))
    result = few_messages_are_dead_letters(settings)
    assert isinstance(result, AssetCheckResult)
    assert (result.passed, result.severity) == (passed, severity)


def test_nulls_where_none_may_be_are_found_in_the_statistics_and_without_them(settings: Settings) -> None:
    sound = rows(0, 9)
    columns = [pa.field(field.name, field.type) for field in sound.schema]
    broken = sound.set_column(0, columns[0], pa.nulls(10, columns[0].type)).cast(pa.schema(columns))
    place = sound.schema.get_field_index("model_version")
    holes = pa.array([None, *["model-1"] * 9], pa.string())
    table = str(settings.table("predictions"))
    # The second time statistics of the first column alone.
    for configuration in (None, {"delta.dataSkippingNumIndexedCols": "1"}):
        write_deltalake(table, broken, configuration=configuration)
        assert _nulls(settings) == {}
        write_deltalake(table, broken.set_column(place, columns[place], holes), mode="append")
        assert _nulls(settings) == {"model_version": 1}
        stated = pa.table(DeltaTable(table).get_add_actions(flatten=True)).column_names
        assert ("null_count.model_version" in stated) == (configuration is None)
        shutil.rmtree(table)


def _nulls(settings: Settings) -> dict[str, int]:
    result = required_columns_are_filled(settings)
    assert isinstance(result, AssetCheckResult)
    found = result.metadata["nulls"].value
    assert isinstance(found, dict)
    nulls = {name: count for name, count in found.items() if count}
    assert result.passed == (not nulls)
    return nulls


def test_run_records_carry_lease_and_attempt_from_their_tags(instance: DagsterInstance) -> None:
    create_run_for_test(
        instance,
        job_name=keys.JOB_SCORE_STREAM,
        status=DagsterRunStatus.FAILURE,
        tags={keys.TAG_ROLE: keys.JOB_SCORE_STREAM, keys.TAG_LEASE: "7", keys.TAG_ATTEMPT: "2"},
    )
    create_run_for_test(instance, job_name="another", status=DagsterRunStatus.STARTED)
    (record,) = stream_runs(instance)
    assert (record.lease, record.attempt, record.progressed) == (7, 2, False)


def gone() -> str:
    """The tag of a process of this machine that has ended."""
    return f"{process_tag().split('/', maxsplit=1)[0]}/999999999/1.00"


def executed_by(instance: DagsterInstance, process: str, status: DagsterRunStatus) -> DagsterRun:
    run_id = str(uuid.uuid4())
    tags = {keys.TAG_PROCESS: process, keys.TAG_RUN: run_id}
    return create_run_for_test(instance, run_id=run_id, status=status, tags=tags)


def test_what_a_repeated_run_copied_from_the_first_one_says_nothing_about_it(
    instance: DagsterInstance,
) -> None:
    first = executed_by(instance, gone(), DagsterRunStatus.FAILURE)
    tags = first.tags | {keys.TAG_ROLE: keys.JOB_SCORE_STREAM, keys.TAG_PROGRESSED: "true"}
    create_run_for_test(instance, job_name=keys.JOB_SCORE_STREAM, status=DagsterRunStatus.STARTED, tags=tags)
    assert fail_orphaned_runs(instance) == []
    (record,) = stream_runs(instance)
    assert not record.progressed


def test_a_run_that_waited_in_the_queue_has_its_time_to_start(instance: DagsterInstance) -> None:
    waited = create_run_for_test(instance, status=DagsterRunStatus.STARTING)
    assert fail_orphaned_runs(instance, start_seconds=60) == []
    storage = instance.run_storage
    assert isinstance(storage, SqliteRunStorage)
    with storage.connect() as connection:
        connection.execute(RunsTable.update().values(create_timestamp=datetime(2024, 1, 1)))
    assert fail_orphaned_runs(instance, start_seconds=60) == []
    with storage.connect() as connection:
        connection.execute(RunsTable.update().values(update_timestamp=datetime(2024, 1, 1)))
    assert [run.run_id for run in fail_orphaned_runs(instance, start_seconds=60)] == [waited.run_id]


def test_a_run_whose_process_is_gone_is_failed(instance: DagsterInstance) -> None:
    dead = executed_by(instance, gone(), DagsterRunStatus.STARTED)
    alive = executed_by(instance, process_tag(), DagsterRunStatus.STARTED)
    assert [run.run_id for run in fail_orphaned_runs(instance)] == [dead.run_id]
    statuses = {r.run_id: r.status for r in instance.get_runs()}
    assert statuses == {dead.run_id: DagsterRunStatus.FAILURE, alive.run_id: DagsterRunStatus.STARTED}


def test_a_cancelled_run_whose_process_is_gone_stays_a_cancelled_one(instance: DagsterInstance) -> None:
    run = executed_by(instance, gone(), DagsterRunStatus.CANCELING)
    fail_orphaned_runs(instance)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status == DagsterRunStatus.CANCELED


def test_a_run_that_goes_on_after_a_person_asked_for_its_end_is_interrupted_once(
    instance: DagsterInstance,
) -> None:
    with subprocess.Popen([sys.executable, "-c", GOES_ON], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            process = psutil.Process(child.pid)
            tag = f"{process_tag().split('/', maxsplit=1)[0]}/{child.pid}/{start_of(process):.2f}"
            run = executed_by(instance, tag, DagsterRunStatus.CANCELING)
            fail_orphaned_runs(instance)
            storage = instance.run_storage
            assert isinstance(storage, SqliteRunStorage)
            with storage.connect() as connection:
                connection.execute(RunsTable.update().values(update_timestamp=datetime(2024, 1, 1)))
            for _ in range(3):
                assert fail_orphaned_runs(instance) == []
            assert child.stdout.readline() == "interrupted\n"
            found = instance.get_run_by_id(run.run_id)
            assert found is not None
            assert found.status == DagsterRunStatus.CANCELING
        finally:
            child.kill()
        assert child.stdout.read() == ""


@contextmanager
def _instance_of(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(settings.dagster_home))
    with open_instance(settings) as made:
        yield made


def test_a_process_of_another_machine_is_never_declared_dead() -> None:
    assert not process_is_gone("some-other-host/999999999/1.00")
    assert not process_is_gone("nonsense")
