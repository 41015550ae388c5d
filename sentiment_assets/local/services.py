"""Dagster's processes on this machine: code server, web server, daemon.

One code server is shared by the web server and the daemon, so that a machine with two cores loads
the definitions once. A process that dies is started again; all end with :meth:`Services.stop`.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from sentiment_assets.failures import SetupError
from sentiment_assets.keys import LOCATION
from sentiment_assets.runtime.ports import free_port, in_url, reachable, require_free_port, spare_loopback
from sentiment_assets.runtime.processes import ManagedProcess, reap_recorded
from sentiment_assets.settings import Settings

CODE_SERVER, WEB_SERVER, DAEMON = "dagster-code-server", "dagster-webserver", "dagster-daemon"
NAMES = (CODE_SERVER, WEB_SERVER, DAEMON)
_START_SECONDS = 120


class _NotReadyError(Exception):
    """The process has not answered yet."""


@dataclass
class Services:
    """The three processes of Dagster, supervised.

    Parameters
    ----------
    settings
        Names SENTIMENT_HOME and the address of the web server.
    port
        Port of the web server.
    env
        Environment variables of the processes, and so of the runs, beside those of this process.
    """

    settings: Settings
    port: int
    env: Mapping[str, str] = field(default_factory=dict)
    restarts: int = 0
    _processes: dict[str, ManagedProcess] = field(default_factory=dict)
    _commands: dict[str, list[str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address of the UI."""
        return f"http://{in_url(self.settings.ui_host)}:{self.port}"

    def claim_port(self) -> None:
        """End what a crash left behind, and refuse a port that is taken, before anything else is started.

        Raises
        ------
        SetupError
            When another program has the web server's port; names it.
        """
        reap_recorded(self.settings, NAMES)
        require_free_port(self.port, option="--port", host=self.settings.ui_host)

    def start(self, on_progress: Callable[[str], None] = lambda _: None) -> None:
        """Start all three and wait until each answers.

        Raises
        ------
        SetupError
            When the web server's port is taken, or a process does not come up.
        """
        self.claim_port()
        code_port = free_port()
        spare_loopback()
        workspace = self._write_workspace(code_port)
        module = [sys.executable, "-m"]
        self._commands = {
            CODE_SERVER: [*module, "dagster", "code-server", "start", "--module-name",
                          "sentiment_assets.definitions", "--host", "127.0.0.1", "--port", str(code_port),
                          "--location-name", LOCATION, "--use-python-environment-entry-point"],
            WEB_SERVER: [*module, "sentiment_assets.local.web_server", "--workspace", str(workspace),
                         "--host", self.settings.ui_host, "--port", str(self.port)],
            DAEMON: [*module, "dagster._daemon", "run", "--workspace", str(workspace)],
        }  # fmt: skip
        on_progress("loading the definitions")
        self._launch(CODE_SERVER)
        self._wait_for_code_server(code_port)
        on_progress("starting the web server and the daemon")
        self._launch(WEB_SERVER)
        self._launch(DAEMON)
        self._wait_for_web_server()

    def restart_dead(self) -> list[str]:
        """Start again what has died; returns the names. Call it every few seconds."""
        dead = [name for name, process in self._processes.items() if not process.alive]
        for name in dead:
            self._launch(name)
        self.restarts += len(dead)
        return dead

    def ask_to_end(self, *names: str) -> None:
        """Send SIGTERM and do not wait."""
        for name in names:
            if name in self._processes:
                self._processes[name].ask_to_end()

    def stop(self) -> None:
        """End all processes; they end beside each other."""
        self.ask_to_end(*NAMES)
        for name in (DAEMON, WEB_SERVER, CODE_SERVER):
            process = self._processes.pop(name, None)
            if process is not None:
                process.stop(grace_seconds=5)

    def _launch(self, name: str) -> None:
        self._processes[name] = ManagedProcess.start(
            name,
            self._commands[name],
            settings=self.settings,
            env=os.environ
            | dict(self.env)
            | {
                "DAGSTER_HOME": str(self.settings.dagster_home),
                "SENTIMENT_HOME": str(self.settings.root),
                "PYTHONUNBUFFERED": "1",
            },
            log=self.settings.logs / f"{name}.log",
        )

    def _write_workspace(self, code_port: int) -> Path:
        path = self.settings.run / "workspace.yaml"
        server = {"host": "127.0.0.1", "port": code_port, "location_name": LOCATION}
        path.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        return path

    def _wait_for_code_server(self, port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)

            def answers() -> None:
                request = health_pb2.HealthCheckRequest(service="DagsterApi")
                reply = health.Check(request, timeout=5)
                if reply.status != health_pb2.HealthCheckResponse.SERVING:
                    raise _NotReadyError

            self._poll(CODE_SERVER, answers)

    def _wait_for_web_server(self) -> None:
        import requests  # opens a socket at import

        address = f"http://{reachable(self.settings.ui_host)}:{self.port}"

        def answers() -> None:
            try:
                requests.get(f"{address}/server_info", timeout=5).raise_for_status()
            except requests.RequestException as error:
                raise _NotReadyError(str(error)) from error

        self._poll(WEB_SERVER, answers)

    def _poll(self, name: str, answers: Callable[[], None]) -> None:
        """Call ``answers`` until it raises nothing; stop at once when the process is gone."""
        process = self._processes[name]
        retrying = Retrying(
            retry=retry_if_exception_type((_NotReadyError, grpc.RpcError)),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(_START_SECONDS),
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    if not process.alive:
                        raise ChildProcessError("it ended while starting")
                    answers()
        except (_NotReadyError, grpc.RpcError, ChildProcessError) as error:
            log = self.settings.logs / f"{name}.log"
            raise SetupError(
                f"{name} did not come up ({type(error).__name__}: {error}).",
                f"Read {log}; `sentiment-assets doctor` checks the machine.",
            ) from error
