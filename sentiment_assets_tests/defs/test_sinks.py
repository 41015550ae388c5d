"""Sinks in the lineage: there when switched on, launched when behind, with their figures as metadata."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, SensorResult, SkipReason, build_sensor_context, materialize
from pydantic import SecretStr

from sentiment_assets.build import build_definitions
from sentiment_assets.defs.sinks import sink_assets, sink_jobs, sink_sensors
from sentiment_assets.keys import TAG_ROLE
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets_tests.peers.databases import PASSWORD, PostgresServer
from sentiment_assets_tests.peers.predictions import append

NOWHERE = SecretStr("postgresql://tester:made-up-password@127.0.0.1:1/x")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        yield running


def test_a_sink_stands_behind_the_predictions_only_when_it_is_switched_on(tmp_path: Path) -> None:
    without = build_definitions(Settings(home=tmp_path)).resolve_asset_graph()
    assert not [key for key in without.get_all_asset_keys() if key.path[0] == "sinks"]
    both = Settings(
        home=tmp_path, sink_postgres_dsn=NOWHERE, sink_mongodb_uri=SecretStr("mongodb://127.0.0.1:1/x")
    )
    graph = build_definitions(both).resolve_asset_graph()
    for name in ("postgres", "mongodb"):
        node = graph.get(AssetKey(["sinks", name]))
        assert node.parent_keys == {AssetKey("predictions")}
        assert node.owners
        assert node.kinds == {name}
        assert "dagster/column_schema" in node.metadata


def test_a_run_brings_the_sink_up_to_date_and_shows_its_figures(
    settings: Settings, server: PostgresServer
) -> None:
    configured = settings.model_copy(update={"sink_postgres_dsn": server.dsn})
    for number in range(3):
        append(configured.table(PREDICTIONS.name), number * 100, number * 100 + 99)
    with DagsterInstance.ephemeral() as instance:
        sensor = tick(configured, instance)
        assert isinstance(sensor, SensorResult)
        (request,) = sensor.run_requests or []
        assert (request.job_name, request.tags[TAG_ROLE]) == ("sink_postgres", "sink_postgres")
        result = materialize(
            sink_assets(configured),
            instance=instance,
            resources={"settings": configured},
            run_config={"ops": {"sinks__postgres": {"config": {"idle_seconds": 0}}}},
        )
        (event,) = result.get_asset_materialization_events()
        figures = {
            name: value.value for name, value in event.materialization.metadata.items() if name != "where"
        }
        assert figures["dagster/row_count"] == figures["rows_of_this_run"] == 300
        assert figures["lag_versions"] == 0
        assert isinstance(after := tick(configured, instance), SkipReason)
        assert "newest version" in str(after.skip_message)
        records = instance.all_logs(result.run_id)
        assert not [record for record in records if PASSWORD in str(record)], "no secret in the event log"


def test_a_database_that_is_down_is_a_reason_to_wait_and_its_password_is_not_said(settings: Settings) -> None:
    configured = settings.model_copy(update={"sink_postgres_dsn": NOWHERE})
    append(configured.table(PREDICTIONS.name), 0, 9)
    with DagsterInstance.ephemeral() as instance:
        answer = tick(configured, instance)
    assert isinstance(answer, SkipReason)
    assert "Connection refused" in str(answer.skip_message)
    assert "made-up-password" not in str(answer.skip_message)


def tick(settings: Settings, instance: DagsterInstance) -> Any:
    (sensor,) = sink_sensors(settings, sink_jobs(settings))
    with build_sensor_context(instance=instance, resources={"settings": settings}) as context:
        return sensor(context)
