"""A real standalone Spark cluster on the loopback address: a master and two workers, as pyspark ships them.

Executors are processes of their own, with nothing of the driver but what Spark sends them.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.runtime.java import find_java
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.runtime.processes import ManagedProcess
from sentiment_assets.settings import Settings
from sentiment_assets.sources import generated

WORKERS = ("worker-1", "worker-2")
START_SECONDS = 60
COMMAND_SECONDS = 380
ROWS = 1500
# Sizes of executors are the cluster's business; two cores need no 200 partitions.
DEFAULTS = """\
spark.executor.memory 1g
spark.executor.cores 1
spark.sql.shuffle.partitions 4
"""


@dataclass
class Cluster:
    """The cluster, and a home whose commands run on it."""

    master: str
    home: Path
    environment: dict[str, str]

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of the product whose driver is this machine."""
        result = subprocess.run(
            [sys.executable, "-m", "sentiment_assets", *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result

    def json(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """The one JSON object that a command prints."""
        return dict(json.loads(self.command(*arguments, "--json", **environment).stdout))

    def applications(self) -> set[str]:
        """Applications that had an executor on both workers, by Spark's id."""
        seen = [
            {folder.name for folder in (self.home / "work" / worker).glob("app-*") if any(folder.iterdir())}
            for worker in WORKERS
        ]
        return set.intersection(*seen)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Master and workers, ready; all of it is ended afterwards, executors included."""
    home = tmp_path_factory.mktemp("cluster") / "home"
    settings = Settings(home=home).prepare()
    spec = find_spec("pyspark")
    assert spec is not None
    assert spec.submodule_search_locations
    spark_home = Path(spec.submodule_search_locations[0])
    java = find_java()
    conf = home / "conf"
    conf.mkdir()
    (conf / "spark-defaults.conf").write_text(DEFAULTS)
    environment = os.environ | {
        "JAVA_HOME": str(java.home),
        "SPARK_HOME": str(spark_home),
        "SPARK_CONF_DIR": str(conf),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_SCALA_VERSION": "2.13",
    }
    port = free_port()
    master = f"spark://127.0.0.1:{port}"
    running: list[ManagedProcess] = []

    def start(name: str, main: str, *arguments: str, ready: str) -> None:
        command = [
            str(java.executable),
            "-Xmx256m",
            "-cp",
            f"{spark_home}/jars/*",
            f"org.apache.spark.deploy.{main}",
        ]
        process = ManagedProcess.start(
            name,
            [*command, "--host", "127.0.0.1", "--webui-port", "0", *arguments],
            settings=settings,
            env=environment,
        )
        running.append(process)
        deadline, pause = time.monotonic() + START_SECONDS, threading.Event()
        while ready not in (said := process.log.read_text(errors="replace")):
            assert process.alive, said
            assert time.monotonic() < deadline, said
            pause.wait(0.2)

    # pytest itself runs no finalizer when it is told to end.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        start("master", "master.Master", "--port", str(port), ready="New state: ALIVE")
        for name in WORKERS:
            folder = home / "work" / name
            folder.mkdir(parents=True)
            start(
                name,
                "worker.Worker",
                *("--cores", "1", "--memory", "1536m", "--work-dir", str(folder), master),
                ready="Successfully registered with master",
            )
        yield Cluster(
            master,
            home,
            environment
            | {
                "SENTIMENT_HOME": str(home),
                "SENTIMENT_SPARK_MASTER": master,
                "SENTIMENT_TRAINING_MEMORY": "2g",
                "SENTIMENT_STREAM_MEMORY": "1g",
                "SENTIMENT_KAFKA_PORT": str(free_port()),
            },
        )
    finally:
        for process in reversed(running):
            process.stop()
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def sample(cluster: Cluster) -> Path:
    """Generated labelled tweets."""
    return generated.write(Settings(home=cluster.home), rows=ROWS)


@pytest.fixture(scope="session")
def bootstrap(cluster: Cluster) -> Iterator[str]:
    """A real broker, reached by driver and executors."""
    broker = EmbeddedBroker(
        Settings(home=cluster.home, kafka_port=int(cluster.environment["SENTIMENT_KAFKA_PORT"]))
    )
    address = broker.start().bootstrap
    assert address is not None
    yield address
    broker.stop()
