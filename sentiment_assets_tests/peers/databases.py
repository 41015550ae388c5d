"""Real databases on the loopback, started from the machine's packages, killed and started again.

PostgreSQL is Debian's package ``postgresql-15`` (any version 12 or later is found). For MongoDB a program on the PATH
is taken: ``mongod``, or ``ferretdb`` 1.x, which speaks the protocol and keeps its data in SQLite. Where neither is,
``mongo-java-server`` from Maven stands in: it forgets acknowledged writes when it is killed.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TextIO

import psutil
import psycopg
import pytest
from psycopg.pq import PGconn, Ping
from psycopg.rows import dict_row
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from sentiment_assets.runtime.jars import jar_paths
from sentiment_assets.runtime.java import find_java
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.settings import Settings

PASSWORD = "made up & secret"  # noqa: S105  (of a database that lives for a test)
_START_SECONDS = 60


def postgres_programs() -> Path | None:
    """Folder of PostgreSQL's server programs, the newest version; None when there are none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if folders:
        return folders[-1].parent
    found = shutil.which("initdb")
    return Path(found).parent if found else None


class PostgresServer:
    """A cluster of its own, with a password; as root it runs as the user ``postgres``, which it insists on."""

    def __init__(self) -> None:
        programs = postgres_programs()
        if programs is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql-15")
        self._programs = programs
        self._user = "postgres" if os.geteuid() == 0 else None
        # Not pytest's folder: the user postgres cannot enter it.
        self._folder = Path(tempfile.mkdtemp(prefix="sentiment-postgres-"))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.dsn = SecretStr(
            f"postgresql://tester:{PASSWORD.replace(' ', '%20').replace('&', '%26')}@127.0.0.1:{self._port}/postgres"
        )

    def __enter__(self) -> Self:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._user:
            owner = pwd.getpwnam(self._user)
            for path in (self._folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data = str(self._folder / "data")
        options = ["--username=tester", f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync"]
        subprocess.run(
            [str(self._programs / "initdb"), "-D", data, "--encoding=UTF8", "--locale=C", *options],
            user=self._user,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, *, standby: bool = False) -> None:
        """Start the server and wait until it answers; as a standby it lets nobody write."""
        if standby:
            (self._folder / "data" / "standby.signal").touch()
        # What was written survives a kill of the processes without fsync; only a power cut would need it.
        settings = {"port": self._port, "listen_addresses": "127.0.0.1", "fsync": "off",
                    "unix_socket_directories": self._folder, "max_wal_size": "1GB"}  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *options],
                user=self._user,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        _wait(lambda: self.execute("SELECT 1"), psycopg.Error)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default as a crash would: with all its processes at once."""
        process, self._process = self._process, None
        if process is None:
            return
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(number)
        if number == signal.SIGKILL:
            for one in family:
                one.kill()
        process.wait(timeout=60)
        psutil.wait_procs(family, timeout=30)

    @contextmanager
    def shutting_down(self) -> Iterator[None]:
        """It lets nobody in and waits for one connection to end; stopped afterwards."""
        assert self._process is not None
        address = self.dsn.get_secret_value()

        def rejects() -> None:
            if PGconn.ping(address.encode()) != Ping.REJECT:
                raise TimeoutError("it does not shut down")

        with psycopg.connect(address):
            self._process.send_signal(signal.SIGTERM)
            _wait(rejects, TimeoutError)
            yield
        self.stop(signal.SIGTERM)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It takes connections and says nothing."""
        assert self._process is not None
        with _stopped(self._process.pid):
            yield

    def user(self, name: str) -> SecretStr:
        """Connection string of a new user without any rights but to connect; the password is the same."""
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        return SecretStr(self.dsn.get_secret_value().replace("tester:", f"{name}:"))

    def execute(self, statement: str) -> list[dict[str, Any]]:
        """Run one statement and return its rows."""
        with psycopg.connect(
            self.dsn.get_secret_value(), autocommit=True, row_factory=dict_row
        ) as connection:
            found = connection.execute(statement)  # type: ignore[arg-type]
            return found.fetchall() if found.description else []

    def rows(self) -> Iterable[Mapping[str, Any]]:
        """All predictions, without holding them all."""
        with (
            psycopg.connect(self.dsn.get_secret_value(), row_factory=dict_row) as connection,
            connection.cursor("all") as cursor,
        ):
            cursor.itersize = 10_000
            cursor.execute("SELECT * FROM sentiment.predictions")
            yield from cursor


class MongoServer:
    """A server of MongoDB's protocol with its data in a folder of its own.

    Attributes
    ----------
    keeps
        Whether what it acknowledged survives a kill.
    """

    def __init__(self, settings: Settings) -> None:
        self._program = shutil.which("mongod") or shutil.which("ferretdb")
        self._jars = [] if self._program else jar_paths("mongodb_test", settings)
        self._folder = Path(tempfile.mkdtemp(prefix="sentiment-mongodb-"))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.keeps = self._program is not None
        self.uri = SecretStr(f"mongodb://127.0.0.1:{self._port}/follow_test")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def title(self) -> str:
        """What serves."""
        return Path(self._program).name if self._program else "mongo-java-server"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self._folder / "log").open("a") as log:
            self._process = self._start_program(log) if self._program else self._start_java(log)
        _wait(self._answer, PyMongoError)

    def _start_program(self, log: TextIO) -> "subprocess.Popen[bytes]":
        assert self._program is not None
        (self._folder / "data").mkdir(exist_ok=True)
        options = {
            "mongod": [
                *("--dbpath", str(self._folder / "data"), "--port", str(self._port)),
                *("--bind_ip", "127.0.0.1"),
            ],
            "ferretdb": [
                "--handler=sqlite",
                f"--sqlite-url=file:{self._folder}/data/",
                f"--listen-addr=127.0.0.1:{self._port}",
                f"--state-dir={self._folder}",
                "--debug-addr=-",
                "--telemetry=disable",
                "--log-level=error",
            ],
        }[self.title]
        return subprocess.Popen([self._program, *options], stdout=log, stderr=log, cwd=self._folder)

    def _start_java(self, log: TextIO) -> "subprocess.Popen[bytes]":
        # Its own main program takes no port; py4j, which comes with Spark, calls its class from here.
        py4j = next(Path(find_spec("pyspark").submodule_search_locations[0], "jars").glob("py4j-*.jar"))
        port, process = launch_gateway(
            jarpath=str(py4j),
            classpath=os.pathsep.join(str(jar) for jar in self._jars),
            javaopts=["-Xmx1g", "-XX:+UseSerialGC"],
            java_path=str(find_java().executable),
            die_on_exit=True,
            return_proc=True,
            redirect_stdout=log,
            redirect_stderr=log,
        )
        self._gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port))
        self._java = self._gateway.jvm.de.bwaldvogel.mongo.H2MongoServer(str(self._folder / "data.h2"))
        self._java.bind("127.0.0.1", self._port)
        return process

    def stop(self) -> None:
        """Kill it; one that forgets what it acknowledged when it is killed ends in order."""
        process, self._process = self._process, None
        if process is not None:
            if not self.keeps:
                self._java.shutdown()
                self._gateway.close()
            process.kill()
            process.wait(timeout=30)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It takes connections and says nothing."""
        assert self._process is not None
        with _stopped(self._process.pid):
            yield

    def rows_now(self) -> int:
        """Documents in the collection; FerretDB reads each to count them."""
        with self._client() as client:
            return client.get_default_database()["predictions"].count_documents({})

    def position(self) -> dict[str, Any] | None:
        """What the sink noted last, None before its first batch."""
        with self._client() as client:
            return client.get_default_database()["followed"].find_one({"_id": "position"})

    def _answer(self) -> None:
        with self._client() as client:
            client.admin.command("ping")

    def _client(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.uri.get_secret_value(), serverSelectionTimeoutMS=500)

    def rows(self) -> Iterable[Mapping[str, Any]]:
        """All predictions."""
        with MongoClient[dict[str, Any]](self.uri.get_secret_value(), tz_aware=True) as client:
            yield from client.get_default_database()["predictions"].find({})


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """A process and its children do nothing meanwhile."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]

    def stopped() -> None:
        # The signal is sent before each thread has seen it.
        if process.status() != psutil.STATUS_STOPPED:
            raise TimeoutError("the process runs on")

    try:
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.suspend()
        _wait(stopped, TimeoutError)
        yield
    finally:
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.resume()


def _wait(answers: Callable[[], object], fault: type[Exception]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            answers()
        except fault:
            if time.monotonic() > deadline:
                raise
            threading.Event().wait(0.1)
        else:
            return
