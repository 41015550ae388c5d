"""The services of docker-compose.yaml as plain processes with the same configuration: Dagster on PostgreSQL."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import yaml

from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.settings import Settings
from sentiment_assets.streaming import heartbeat as heartbeats
from sentiment_assets_tests.e2e.conftest import eventually
from sentiment_assets_tests.peers.databases import PASSWORD, PostgresServer

pytestmark = pytest.mark.deployment
DOCKER = Path(__file__).resolve().parents[2] / "docker"
COMPOSE = yaml.safe_load((DOCKER / "docker-compose.yaml").read_text())["services"]


class Deployment:
    """The processes, started from the commands that compose has for them."""

    def __init__(self, home: Path, logs: Path, replaced: dict[str, str], environment: dict[str, str]) -> None:
        self.home, self._logs, self._replaced, self._environment = home, logs, replaced, environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def command(self, service: str) -> list[str]:
        """Compose's command with this machine's addresses in the place of the containers'."""
        words = [self._replaced.get(word, word) for word in COMPOSE[service]["command"]]
        return [str(Path(sys.executable).parent / words[0]), *words[1:]]

    def once(self, *command: str, timeout: float = 400) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            env=self._environment, capture_output=True, text=True, timeout=timeout, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def service(self, name: str) -> Iterator[None]:
        with (self._logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.command(name), env=self._environment, stdout=log, stderr=subprocess.STDOUT)  # fmt: skip
            self._running[name] = process
            try:
                yield
            finally:
                if process.poll() is None:
                    process.terminate()
                # A container is killed after 20 s.
                process.wait(timeout=20)

    def log(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text()

    def status(self) -> dict[str, int]:
        return dict(json.loads(self.once("sentiment-assets", "status", "--json")))


def test_a_killed_stream_comes_back_on_an_instance_in_postgresql(tmp_path: Path) -> None:
    home, logs = tmp_path / "home", tmp_path / "logs"
    logs.mkdir()
    settings = Settings(home=home, kafka_port=free_port()).prepare()
    code, ui = str(free_port()), str(free_port())
    instance = yaml.safe_load((DOCKER / "dagster.yaml").read_text())
    instance["compute_logs"]["config"]["base_dir"] = str(home / "logs" / "runs")
    (settings.dagster_home / "dagster.yaml").write_text(yaml.safe_dump(instance))
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(
        (DOCKER / "workspace.yaml").read_text().replace("host: code", "host: 127.0.0.1").replace("4000", code)
    )
    with ExitStack() as up:
        database = urlsplit(up.enter_context(PostgresServer()).dsn.get_secret_value())
        broker = EmbeddedBroker(settings)
        up.callback(broker.stop)
        bootstrap = broker.start().bootstrap
        deployment = Deployment(
            home,
            logs,
            {"0.0.0.0": "127.0.0.1", "4000": code, "3000": ui, "webserver": "127.0.0.1",  # noqa: S104
             "/opt/sentiment/workspace.yaml": str(workspace)},
            os.environ
            | {
                "SENTIMENT_HOME": str(home), "DAGSTER_HOME": str(settings.dagster_home),
                "SENTIMENT_KAFKA_BOOTSTRAP": str(bootstrap), "SENTIMENT_TRAINING_MEMORY": "2g",
                "DAGSTER_POSTGRES_HOST": str(database.hostname), "DAGSTER_POSTGRES_PORT": str(database.port),
                "DAGSTER_POSTGRES_USER": str(database.username), "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
                "DAGSTER_POSTGRES_DB": database.path.strip("/"),
            },
        )  # fmt: skip
        deployment.once(*COMPOSE["migrate"]["command"])
        up.enter_context(deployment.service("code"))
        eventually(
            lambda: _serves(deployment, code), 120, "The code location", lambda: deployment.log("code")
        )
        up.enter_context(deployment.service("webserver"))
        up.enter_context(deployment.service("daemon"))
        deployment.once(
            "sentiment-assets", "first-training", "--port", ui, "--data", "sample", "--rows", "4000"
        )
        sample = next((home / "downloads").glob("*.csv"))
        deployment.once("sentiment-assets", "replay", str(sample), "--limit", "500", "--rate", "500")
        eventually(lambda: deployment.status()["predictions"] == 500, 180, "500 predictions")

        beat = heartbeats.read_heartbeat(settings)
        assert beat is not None
        os.kill(beat.pid, signal.SIGKILL)
        deployment.once("sentiment-assets", "replay", str(sample), "--limit", "1000", "--rate", "500")
        eventually(lambda: deployment.status()["predictions"] == 1500, 240, "1,500 predictions")
        status = deployment.status()
        assert (status["gaps"], status["duplicates"], status["lag"]) == (0, 0, 0)
        after = heartbeats.read_heartbeat(settings)
        assert after is not None
        assert after.run_id != beat.run_id

        # The runs are in PostgreSQL and nowhere else.
        query = (
            '{ runsOrError(filter: {pipelineName: "score_stream"}) { ... on Runs { results { status } } } }'
        )
        answer = requests.post(f"http://127.0.0.1:{ui}/graphql", json={"query": query}, timeout=30).json()
        assert "FAILURE" in [run["status"] for run in answer["data"]["runsOrError"]["results"]]
        assert not list(home.rglob("runs.db"))


def _serves(deployment: Deployment, port: str) -> bool:
    check = [shutil.which("dagster", path=str(Path(sys.executable).parent)) or "dagster",
             "api", "grpc-health-check", "--port", port]  # fmt: skip
    return subprocess.run(check, capture_output=True, timeout=60, check=False).returncode == 0
