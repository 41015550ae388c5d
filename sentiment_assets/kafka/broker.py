"""The embedded broker: real Apache Kafka (KRaft) as one Java process, no Docker, no ZooKeeper.

Belongs here: its configuration, start, stop and state.
Does not belong here: what clients ask of it (``client``), where the jars come from (``runtime.jars``).

The broker outlives the process that started it: ``kafka start`` and ``kafka stop`` are two commands, and a
crash of everything else loses no message. Its data survive a SIGKILL: Kafka recovers them at the next start.
"""

import base64
import errno
import logging
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from sentiment_assets.failures import BrokerError, SetupError
from sentiment_assets.kafka.client import ensure_topic
from sentiment_assets.kafka.cluster import BROKER, Cluster
from sentiment_assets.runtime.jars import jar_paths
from sentiment_assets.runtime.java import find_java
from sentiment_assets.runtime.ports import LOOPBACK, free_port, is_free, wait_for_port
from sentiment_assets.runtime.processes import ManagedProcess, reap_recorded
from sentiment_assets.settings import Settings

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 2_500_000
"""Largest record batch: a text of 1 MB grows with JSON escapes; Kafka's default of 1 MiB would refuse it."""

# Measured on 2 cores: boots in 2.3 s, 280 MB resident after two minutes of a stream. The heap it needs is touched at
# once, so that a figure that grows means a leak.
_JVM_OPTIONS = (
    "-Xms160m",
    "-XX:+AlwaysPreTouch",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)

_FORMAT_SECONDS = 60
_PORT_SECONDS = 15
# Less than the index files of one new log segment: no broker starts with it.
_LEAST_DISK_BYTES = 2**20


@dataclass(frozen=True)
class BrokerStatus:
    """State of the embedded broker.

    Attributes
    ----------
    bootstrap
        ``host:port`` for clients; None when it does not run.
    topic
        Topic of the tweets, as configured.
    """

    running: bool
    bootstrap: str | None
    pid: int | None
    topic: str


class EmbeddedBroker:
    """Start, stop and find the broker of one home.

    Parameters
    ----------
    settings
        ``kafka_port`` is preferred, another free port is taken if it is in use and kept for later starts.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.kafka
        self._data = settings.kafka / "data"
        self._log = settings.logs / "kafka.log"
        self._console = settings.logs / "kafka-console.log"

    def status(self) -> BrokerStatus:
        """What runs now, whichever process started it."""
        process = ManagedProcess.recorded(BROKER, self._settings)
        if process is None or "ready" not in process.facts:
            return BrokerStatus(False, None, None, self._settings.topic)
        return BrokerStatus(True, process.facts["bootstrap"], process.pid, self._settings.topic)

    def start(self, timeout: float = 60.0, on_progress: Callable[[str], None] | None = None) -> BrokerStatus:
        """Start the broker unless it runs; return when it answers and the topic exists.

        Parameters
        ----------
        timeout
            Seconds that the broker may take to boot (jars are fetched before they count).

        Raises
        ------
        BrokerError
            When it ends at once or does not answer in time; names the cause and the log.
        SetupError
            When there is no Java, jars cannot be fetched, or the home cannot be written.
        """
        jars = jar_paths("broker", self._settings, on_progress)
        with self._locked(timeout):
            process = ManagedProcess.recorded(BROKER, self._settings)
            if process is None:
                process = self._launch(jars)
            try:
                self._wait_until_ready(process, timeout)
            except BaseException:
                # A broker that answered before is left alone: its data are worth more than a tidy failure.
                if "ready" not in process.facts:
                    process.stop(grace_seconds=5)
                raise
            process.note(ready="yes")
        return self.status()

    def stop(self, timeout: float = 20.0) -> BrokerStatus:
        """Stop the broker if it runs: SIGTERM, then SIGKILL after ``timeout`` seconds."""
        with self._locked(timeout + 60.0):
            reap_recorded(self._settings, [BROKER], grace_seconds=timeout)
        return self.status()

    def _launch(self, jars: list[Path]) -> ManagedProcess:
        client_port, controller_port = self._choose_ports()
        bootstrap = f"{LOOPBACK}:{client_port}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._settings.logs.mkdir(parents=True, exist_ok=True)
            (self._folder / "log4j2.properties").write_text(_log4j2(self._log), encoding="utf-8")
            if not (self._data / "meta.properties").is_file():
                self._format(jars, client_port, controller_port)
            properties = self._folder / "server.properties"
            _write_properties(properties, self._properties(self._data, client_port, controller_port))
            (self._folder / "ports").write_text(
                f"{client_port} {controller_port} {self._settings.kafka_port}\n", encoding="utf-8"
            )
            for log in (self._console, self._log):
                if log.is_file():  # what the new one says must be about this start
                    log.replace(log.with_stem(f"{log.stem}-last"))
        except OSError as error:
            raise SetupError(
                f"The broker's folder {self._folder} cannot be written ({error.strerror}).",
                "Free some disk, or point SENTIMENT_HOME at a folder that can be written.",
            ) from error
        return ManagedProcess.start(
            BROKER,
            [*self._java(jars), "kafka.Kafka", str(properties)],
            settings=self._settings,
            log=self._console,
            cwd=self._folder,
            facts={"bootstrap": bootstrap},
        )

    def _format(self, jars: list[Path], client_port: int, controller_port: int) -> None:
        """Make the data folder under another name first: an interrupted format leaves nothing behind."""
        partial = self._folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        if self._data.exists():
            raise BrokerError(
                f"The broker's data folder {self._data} is not a Kafka log folder (no meta.properties).",
                "Move it away, or start over with `sentiment-assets reset --stream`.",
            )
        properties = self._folder / "format.properties"
        _write_properties(properties, self._properties(partial, client_port, controller_port))
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # The equals sign matters: a random id may start with "-" and would be taken for an option.
        command = [*self._java(jars), "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}"]
        try:
            answer = subprocess.run(
                [*command, "-c", str(properties)],
                cwd=self._folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_FORMAT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BrokerError(
                f"Kafka took more than {_FORMAT_SECONDS} s to format {self._data}.",
                "The machine may be overloaded: try again.",
            ) from error
        if answer.returncode != 0 or not (partial / "meta.properties").is_file():
            self._console.write_text(answer.stdout + answer.stderr, encoding="utf-8")
            raise BrokerError(
                f"Kafka could not format {self._data} ({_cause(self._console)}).",
                f"Its output is in {self._console}.",
            )
        partial.rename(self._data)
        properties.unlink()

    def _properties(self, data: Path, client_port: int, controller_port: int) -> dict[str, object]:
        """Configuration of the broker; a kind of broker with other listeners would change it."""
        return _server_properties(data, client_port, controller_port, self._settings.topic_partitions)

    def _wait_until_ready(self, process: ManagedProcess, timeout: float) -> None:
        """An open port is not enough: ready is when the topic can be created."""
        cluster = Cluster(process.facts["bootstrap"])
        deadline = time.monotonic() + timeout
        while True:
            try:
                ensure_topic(cluster, self._settings.topic, self._settings.topic_partitions, timeout=2.0)
            except BrokerError as error:
                if not process.alive:
                    if shutil.disk_usage(self._folder).free < _LEAST_DISK_BYTES:
                        raise BrokerError(
                            f"The embedded broker ended at once: the disk of {self._folder} is full.",
                            "Free some disk and start it again; what it has taken is kept.",
                        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    raise BrokerError(
                        f"The embedded broker ended at once ({_cause(self._log, self._console)}).",
                        f"Its log is {self._log}.",
                    ) from None
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"The broker (pid {process.pid}) is not ready after {timeout:g} s. {error.what}",
                        f"Its log is {self._log}. `sentiment-assets kafka stop` ends it.",
                    ) from None
            else:
                return

    def _choose_ports(self) -> tuple[int, int]:
        """Those of the last start while they are free: addresses that people noted stay right, clients come back.

        Another ``kafka_port`` than at the last start is a wish for that one.
        """
        wanted = self._settings.kafka_port
        try:
            kept = [int(port) for port in (self._folder / "ports").read_text(encoding="utf-8").split()]
            last_client, last_controller, *wanted_then = kept
        except (OSError, ValueError):
            last_client, last_controller, wanted_then = 0, 0, []
        if last_client == 0 or wanted_then not in ([], [wanted]):
            last_client = wanted
        elif not wait_for_port(last_client, _PORT_SECONDS):
            logger.warning("Port %s is in use: clients of the broker have to find its new one.", last_client)
        client = free_port(last_client, wanted)
        if client != wanted and not is_free(wanted):
            logger.info("Port %s is in use; the broker takes %s.", wanted, client)
        controller = free_port(*([last_controller] if last_controller not in (0, client) else []))
        return client, controller

    def _java(self, jars: list[Path]) -> list[str]:
        return [
            str(find_java().executable),
            *_JVM_OPTIONS,
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}",
            "-cp",
            os.pathsep.join(map(str, jars)),
        ]

    def _locked(self, timeout: float) -> "_BrokerLock":
        return _BrokerLock(self._settings, timeout)


class _BrokerLock:
    """One start or stop at a time in a home."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        self._path = settings.run / "broker.lock"
        self._lock = FileLock(self._path, timeout=timeout)

    def __enter__(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise BrokerError(
                "Another process has been starting or stopping the embedded broker for too long.",
                f"End the process that holds {self._path}.",
            ) from None
        except OSError as error:
            raise SetupError(
                f"The lock {self._path} cannot be used ({error.strerror}).",
                "Point SENTIMENT_HOME at a folder that can be written.",
            ) from error

    def __exit__(self, *_exception: object) -> None:
        self._lock.release()


def _cause(*logs: Path) -> str:
    """The innermost cause that a log names, else its last error, else its last line."""
    lines: list[str] = []
    for log in logs:
        if log.is_file():
            lines += log.read_text(encoding="utf-8", errors="replace").splitlines()[-500:]
    for pattern in (r"^Caused by: (.*)", r"^(?:Exception in thread \S+ )?([\w.$]+(?:Exception|Error): .*)"):
        if found := [match[1] for line in lines if (match := re.match(pattern, line))]:
            return found[-1][:300]
    if errors := [line for line in lines if " ERROR " in line or " FATAL " in line]:
        return errors[-1][:300]
    return next((line[:300] for line in reversed(lines) if line.strip()), "it wrote no log")


def _server_properties(
    data: Path, client_port: int, controller_port: int, partitions: int
) -> dict[str, object]:
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{client_port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{client_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": _escaped(data),
        "num.partitions": partitions,
        "auto.create.topics.enable": "false",
        # One node: everything is kept once.
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        # After a SIGKILL the broker may register again only when its last session has expired (default 9 s).
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
        # A quarter of the heap would go to the cleaner by default.
        "log.cleaner.dedupe.buffer.size": 16 * 2**20,
        "log.segment.bytes": 128 * 2**20,
        # By time and by size (per partition): a forgotten broker must not fill the disk.
        "log.retention.hours": 168,
        "log.retention.bytes": 2**30,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
    }


def _write_properties(file: Path, values: Mapping[str, object]) -> None:
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")


def _log4j2(log: Path) -> str:
    return f"""\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={_escaped(log)}
appender.file.filePattern={_escaped(log.with_suffix(""))}-%i.log
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=[%d] %p %m (%c)%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""


def _escaped(path: Path) -> str:
    """A path as Java's properties files read it, where a backslash starts an escape."""
    return str(path).replace("\\", "\\\\")
