"""The services of docker-compose.yaml as plain processes: its commands, environment, health checks and order.

Belongs here: what compose does with those. Does not belong here: the images of others (Kafka, PostgreSQL), which a
test starts by other means, and what is expected of the services.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"
COMPOSE = yaml.safe_load((DOCKER / "docker-compose.yaml").read_text())["services"]
HEALTHY_SECONDS = 150.0
_LAST_LINES = 25
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


class Services:
    """Processes that are started, waited for and ended as compose would do it.

    Parameters
    ----------
    logs
        Folder for the output of each service.
    addresses
        What takes the place of the containers' addresses and ports in commands, checks and environment.
    variables
        Of ``docker/.env``.
    image
        Environment that the image sets.
    """

    def __init__(
        self, logs: Path, addresses: Mapping[str, str], variables: Mapping[str, str], image: Mapping[str, str]
    ) -> None:
        self._logs, self._addresses, self._variables = logs, addresses, dict(variables)
        self._image = dict(image)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._more_logs: list[Path] = []

    def show_too(self, *files: Path) -> None:
        """Files whose last lines a failure shows beside those of the services."""
        self._more_logs += files

    @contextmanager
    def up(self) -> Iterator[None]:
        """End all services afterwards, each within compose's time, and whatever they left behind."""
        try:
            yield
            for name in reversed(self._running):
                self.stop(name)
        finally:
            for process in self._family():
                process.kill()

    def start(self, name: str, **variables: str) -> None:
        """Start a service once what it depends on is as compose demands.

        Parameters
        ----------
        variables
            Of ``docker/.env``, from now on.
        """
        self._variables |= variables
        for other, demand in COMPOSE[name].get("depends_on", {}).items():
            if "command" not in COMPOSE[other]:
                continue  # an image of others: the test has started it
            if demand["condition"] == "service_healthy":
                self.wait_until(
                    lambda other=other: self._is_healthy(other), HEALTHY_SECONDS, other, "to be healthy"
                )
            elif demand["condition"] == "service_completed_successfully":
                assert self._running[other].poll() == 0, f"{name} needs {other} to be completed first"
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                self._command(COMPOSE[name]["command"]),
                env=self._environment(name), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def complete(self, name: str, seconds: float, **variables: str) -> None:
        """Start a service that does one thing, and wait until it has done it."""
        self.start(name, **variables)
        self.wait_for_end(name, seconds)

    def wait_for_end(self, name: str, seconds: float) -> None:
        """Wait until a service ends by itself with success."""
        process = self._running[name]
        self.wait_until(lambda: process.poll() is not None, seconds, name, "to end", alive=False)
        if process.returncode != 0:
            pytest.fail(f"{name} ended with exit code {process.returncode}.\n{self._what_logs_say(name)}")

    def stop(self, name: str) -> None:
        """End a service as compose does: SIGTERM, and no longer than its grace."""
        process, grace = self._running[name], float(COMPOSE[name]["stop_grace_period"].rstrip("s"))
        process.terminate()
        try:
            process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"{name} did not end within {grace:.0f} s of SIGTERM.\n{self._what_logs_say(name)}")

    def kill(self, name: str) -> None:
        """End a container as a crash would: all its processes at once."""
        process = self._running[name]
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in family:
            one.send_signal(signal.SIGKILL)
        process.wait(timeout=30)

    def call(self, *command: str) -> str:
        """Standard output of a command in the environment of the code location, as ``compose exec`` gives it."""
        done = subprocess.run(
            self._command(list(command)), env=self._environment("code"), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def wait_until(
        self,
        condition: Callable[[], bool],
        seconds: float,
        name: str,
        what: str,
        details: Callable[[], str] = lambda: "",
        *,
        alive: bool = True,
    ) -> None:
        """Poll until the condition holds.

        A failure says what was awaited of which service, and shows the last lines of its log.

        Parameters
        ----------
        alive
            Do not wait any longer for a service that ends meanwhile.
        """
        begun, pause = time.monotonic(), threading.Event()
        while not condition():
            ended = self._running[name].poll()
            if alive and ended is not None:
                reason = f"it ended with exit code {ended}"
            elif time.monotonic() - begun > seconds:
                reason = f"nothing came within {seconds:.0f} s"
            else:
                pause.wait(0.5)
                continue
            pytest.fail(f"Waited for {name} {what}: {reason}. {details()}\n{self._what_logs_say(name)}")

    def _is_healthy(self, name: str) -> bool:
        check = COMPOSE[name].get("healthcheck", {}).get("test") or _check_of_the_image()
        done = subprocess.run(
            self._command(check[1:]),
            env=self._environment(name),
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode == 0

    def _command(self, words: list[str]) -> list[str]:
        program, *arguments = (self._interpolated(self._with_addresses(word)) for word in words)
        return [str(Path(sys.executable).with_name(program)), *arguments]

    def _environment(self, name: str) -> dict[str, str]:
        own = {
            # What a person may set is no address of a service, though the database is named as its host is.
            key: self._addresses.get(stated) or self._interpolated(stated)
            for key, stated in COMPOSE[name].get("environment", {}).items()
        }
        return os.environ | self._image | own

    def _interpolated(self, text: str) -> str:
        """Compose's ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}``."""

        def value(match: re.Match[str]) -> str:
            name, kind, rest = match.groups()
            found = self._variables.get(name, "")
            if not found and kind == "?":
                raise KeyError(f"{name}: {rest}")
            return found or (rest or "" if kind == "-" else "")

        return _VARIABLE.sub(value, text)

    def _with_addresses(self, word: str) -> str:
        if word in self._addresses:
            return self._addresses[word]
        for port, other in self._addresses.items():
            word = word.replace(f":{port}/", f":{other}/")
        return word

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _what_logs_say(self, first: str) -> str:
        """The last lines of the log that matters most, then of all others."""
        files = [self._log(name) for name in sorted(self._running, key=lambda name: name != first)]
        parts = []
        for file in [*files, *self._more_logs]:
            if file.is_file():
                lines = file.read_text(errors="replace").splitlines()[-_LAST_LINES:]
                parts.append("\n".join([f"--- {file.name}", *lines]))
        return "\n".join(parts)

    def command_lines(self) -> set[str]:
        """Of everything that runs: what any user of the machine can read."""
        lines = set()
        for process in self._family():
            with suppress(psutil.Error):
                lines.add(" ".join(process.cmdline()))
        return lines

    def _family(self) -> list[psutil.Process]:
        """What still runs in this SENTIMENT_HOME, found by its environment: runs have sessions of their own."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SENTIMENT_HOME") == self._image["SENTIMENT_HOME"]:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def _check_of_the_image() -> list[str]:
    found = re.search(r"^HEALTHCHECK [^\[]*(\[.*\])$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return ["CMD", *json.loads(found[1])]
