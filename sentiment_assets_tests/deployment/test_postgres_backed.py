"""The services of docker-compose.yaml as plain processes with the same configuration: Dagster on PostgreSQL."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import requests

from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.keys import LOCATION, SENSOR_SUPERVISOR
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import row_count, table_exists
from sentiment_assets.streaming import heartbeat as heartbeats
from sentiment_assets_tests.deployment.processes import DOCKER, Services
from sentiment_assets_tests.peers.databases import PASSWORD, PostgresServer

pytestmark = pytest.mark.deployment

NEEDLE = "made-up-path-of-a-webhook"


@dataclass(frozen=True)
class Deployment:
    """What runs: compose's services, their home, Dagster's database, the web server's address."""

    services: Services
    settings: Settings
    database: PostgresServer
    ui: str

    def predictions(self) -> int:
        """Rows of the table, read without a process of its own: it is asked often."""
        table = self.settings.table(PREDICTIONS.name)
        return row_count(table) if table_exists(table) else 0

    def wait_for_predictions(self, at_least: int, seconds: float) -> None:
        """The supervisor in the daemon launches what scores them."""
        self.services.wait_until(
            lambda: self.predictions() >= at_least, seconds, "daemon", f"and the stream: {at_least} predictions",
            lambda: f"There are {self.predictions()}. {self.supervisor()} Heartbeat: {self.heartbeat()}",
        )  # fmt: skip

    def exactly_once(self) -> int:
        """Rows as the product counts them, once it has found no gap, no duplicate, and nothing left to score."""
        status: dict[str, Any] = {}

        def is_recorded() -> bool:
            # The rows of a batch are in the table a moment before the checkpoint records it.
            status.update(json.loads(self.services.call("sentiment-assets", "status", "--json")))
            return bool(status["lag"] == 0)

        self.services.wait_until(is_recorded, 60, "daemon", "and the stream: no lag", lambda: str(status))
        assert (status["gaps"], status["duplicates"]) == (0, 0)
        return int(status["predictions"])

    def heartbeat(self) -> heartbeats.Heartbeat | None:
        """Of the stream."""
        return heartbeats.read_heartbeat(self.settings)

    def supervisor(self) -> str:
        """What the sensor said last."""
        query = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
            sensorState { ticks(limit: 1) { status skipReason error { message } } } } } }"""
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": "__repository__",
            "sensorName": SENSOR_SUPERVISOR,
        }
        return f"Last tick of {SENSOR_SUPERVISOR}: {self.graphql(query, selector=selector)}."

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask the web server."""
        body = {"query": query, "variables": variables}
        try:
            return dict(requests.post(f"{self.ui}/graphql", json=body, timeout=30).json())
        except requests.RequestException as error:
            return {"error": str(error)}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Everything up, a model trained on the generated sample, as ``docker compose up`` leaves it."""
    base = tmp_path_factory.mktemp("deployment")
    home, logs = base / "home", base / "logs"
    logs.mkdir()
    settings = Settings(home=home, kafka_port=free_port()).prepare()
    code, ui = str(free_port()), str(free_port())
    shutil.copy(DOCKER / "dagster.yaml", settings.dagster_home)
    workspace = base / "workspace.yaml"
    workspace.write_text(
        (DOCKER / "workspace.yaml").read_text().replace("host: code", "host: 127.0.0.1").replace("4000", code)
    )
    broker = EmbeddedBroker(settings)
    with PostgresServer() as postgres:
        try:
            kafka = broker.start().bootstrap
            dsn = urlsplit(postgres.dsn.get_secret_value())
            services = Services(
                logs,
                addresses={
                    "0.0.0.0": "127.0.0.1", "webserver": "127.0.0.1", "4000": code, "3000": ui,  # noqa: S104
                    "postgres": "127.0.0.1", "5432": str(dsn.port),
                    "/opt/sentiment/workspace.yaml": str(workspace),
                },
                variables={
                    "SENTIMENT_KAFKA_BOOTSTRAP": str(kafka),
                    "POSTGRES_USER": str(dsn.username), "POSTGRES_PASSWORD": PASSWORD,
                    "POSTGRES_DB": dsn.path.strip("/"), "SENTIMENT_DATA": "sample",
                    "SENTIMENT_TRAIN_ROWS": "4000", "SENTIMENT_TRAINING_MEMORY": "2g",
                    "SENTIMENT_MESSAGES": "500", "SENTIMENT_RATE": "500",
                    "SENTIMENT_ALERT_WEBHOOK": f"http://127.0.0.1:1/{NEEDLE}",
                },
                image={"SENTIMENT_HOME": str(home), "DAGSTER_HOME": str(settings.dagster_home)},
            )  # fmt: skip
            services.show_too(
                settings.logs / "spark-training-console.log", settings.logs / "spark-stream-console.log"
            )
            with services.up():
                services.complete("migrate", 120)
                services.start("code")
                services.start("webserver")
                services.start("daemon")
                services.complete("train", 400)
                yield Deployment(services, settings, postgres, f"http://127.0.0.1:{ui}")
        finally:
            broker.stop()


def test_a_killed_stream_comes_back_on_an_instance_in_postgresql(deployment: Deployment) -> None:
    services = deployment.services
    services.complete("producer", 120)
    deployment.wait_for_predictions(500, 240)

    services.start("producer", SENTIMENT_MESSAGES="1000", SENTIMENT_RATE="50")
    deployment.wait_for_predictions(501, 120)
    beat = deployment.heartbeat()
    assert beat is not None
    os.kill(beat.pid, signal.SIGKILL)
    services.wait_for_end("producer", 120)
    deployment.wait_for_predictions(1500, 240)

    assert deployment.exactly_once() == 1500
    after = deployment.heartbeat()
    assert after is not None
    assert after.run_id != beat.run_id


def test_a_code_location_that_is_killed_with_its_runs_goes_on_when_it_is_started_again(
    deployment: Deployment,
) -> None:
    services, before = deployment.services, deployment.predictions()
    beat = deployment.heartbeat()
    assert beat is not None
    services.start("producer", SENTIMENT_MESSAGES="500", SENTIMENT_RATE="50")
    deployment.wait_for_predictions(before + 1, 120)
    services.kill("code")
    services.start("code")
    services.wait_for_end("producer", 120)
    deployment.wait_for_predictions(before + 500, 240)

    assert deployment.exactly_once() == before + 500
    after = deployment.heartbeat()
    assert after is not None
    assert after.run_id != beat.run_id


def test_the_runs_are_in_postgresql_and_nowhere_else(deployment: Deployment) -> None:
    rows = deployment.database.execute("SELECT pipeline_name, status FROM runs")
    assert ("score_stream", "FAILURE") in [(row["pipeline_name"], row["status"]) for row in rows]
    assert not list(deployment.settings.root.rglob("runs.db"))


def test_no_secret_is_in_a_command_line_a_file_or_dagsters_database(deployment: Deployment) -> None:
    """While the stream runs, after trainings, crashes and restarts."""
    beat = deployment.heartbeat()
    assert beat is not None
    assert beat.running
    commands = deployment.services.command_lines()
    assert any("java" in line for line in commands), commands
    stored = deployment.database.execute(
        "SELECT event AS said FROM event_logs UNION ALL SELECT run_body FROM runs UNION ALL SELECT value FROM run_tags"
        " UNION ALL SELECT job_body FROM jobs UNION ALL SELECT tick_body FROM job_ticks UNION ALL SELECT value FROM kvs"
    )
    assert len(stored) > 100
    secrets = (PASSWORD, quote(PASSWORD), quote_plus(PASSWORD), NEEDLE)
    assert not [line for line in commands if any(secret in line for secret in secrets)]
    assert not [row for row in stored if any(secret in str(row["said"]) for secret in secrets)]
    # The home, and what each service has printed.
    files = [file for file in deployment.settings.root.parent.rglob("*") if file.is_file()]
    assert len(files) > 100
    for file in files:
        with suppress(FileNotFoundError):
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in secrets), file


def test_the_code_location_ends_with_its_runs_in_the_time_that_compose_gives_it(
    deployment: Deployment,
) -> None:
    beat = deployment.heartbeat()
    assert beat is not None
    assert beat.running
    deployment.services.stop("code")
    after = deployment.heartbeat()
    assert after is not None
    assert (after.run_id, after.phase, after.alive) == (beat.run_id, heartbeats.Phase.STOPPED, False)
