"""The product under load: a home of its own, ``up``, a producer of numbered tweets, and a watch on the commits."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.kafka.replay import Message, ReplayResult, produce
from sentiment_assets.lake.log import Archive
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.heartbeat import Heartbeat, Phase, read_heartbeat, read_standby
from sentiment_assets.streaming.status import read_status

_WORDS = ["love", "happy", "sad", "awful", "great", "sunny", "rain", "tired", "coffee", "work", "today"]


class World:
    """One installation that is hurt on purpose.

    Parameters
    ----------
    home
        SENTIMENT_HOME, with a chosen model in it or none (then ``up`` trains on the generated sample).
    rate
        Messages a second.
    bad_every
        One message in so many cannot be scored; 0: none.
    environment
        Further variables, such as SENTIMENT_LEASE_SECONDS.
    """

    def __init__(
        self, home: Path, *, rate: float, bad_every: int = 0, environment: dict[str, str] | None = None
    ) -> None:
        self.settings = Settings(home=home).prepare()
        self.log = home.parent / f"{home.name}-up.log"
        self.rate, self._bad_every = rate, bad_every
        self._environment = os.environ | {
            "SENTIMENT_HOME": str(home),
            "SENTIMENT_KAFKA_PORT": str(free_port()),
            **(environment or {}),
        }
        self._port = free_port()
        self._up: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._sent: ReplayResult | None = None
        self._fault: Exception | None = None
        self._producer: threading.Thread | None = None

    def start(self) -> None:
        """Start ``up`` and wait for the broker."""
        command = [sys.executable, "-m", "sentiment_assets", "up", "--data", "sample", "--rows", "4000",
                   "--messages", "0", "--port", str(self._port)]  # fmt: skip
        with self.log.open("ab") as output:
            self._up = subprocess.Popen(
                command, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )
        self.wait_until(lambda: EmbeddedBroker(self.settings).status().running, 180, "the broker runs")

    def load(self) -> None:
        """Begin to send messages, until :meth:`end`."""
        self._producer = threading.Thread(target=self._produce, name="producer", daemon=True)
        self._producer.start()

    def end(self) -> dict[str, Any]:
        """Stop sending, let the stream drain, stop everything; returns the last status, with ``sent``."""
        self._stop.set()
        if self._producer is not None:
            self._producer.join(timeout=330)
        if self._fault is not None:
            raise self._fault
        self.wait_until(lambda: self._is_drained(), 300, "the topic is drained")
        status = read_status(self.settings)
        in_topic = sum(part["high"] for part in status["partitions"])
        self.stop()
        return status | {"sent": self._sent.sent if self._sent else 0, "in_topic": in_topic}

    def wait_while_alive(self, until: float) -> None:
        """Wait until a time (seconds since the epoch).

        Raises
        ------
        RuntimeError
            When the product ends meanwhile; with the end of its log.
        """
        assert self._up is not None
        while (left := until - time.time()) > 0:
            try:
                code = self._up.wait(timeout=left)
            except subprocess.TimeoutExpired:
                return
            raise RuntimeError(f"`up` ended with {code}:\n{self.log.read_text()[-2000:]}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """Stop ``up`` with a signal; returns the seconds until it had ended."""
        begun = time.monotonic()
        if self._up is not None and self._up.poll() is None:
            self._up.send_signal(number)
            try:
                self._up.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._up.kill()
        return time.monotonic() - begun

    def move(self, home: Path) -> None:
        """Rename SENTIMENT_HOME, with everything stopped."""
        self.settings.root.rename(home)
        self.settings = Settings(home=home)
        self._environment["SENTIMENT_HOME"] = str(home)

    def kill_everything(self) -> int:
        """SIGKILL every process that works for this home; returns how many."""
        family = self.processes()
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=10)
        if self._up is not None:
            self._up.wait()
        return len(family)

    def processes(self) -> list[psutil.Process]:
        """All that runs with this SENTIMENT_HOME, but this process."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get("SENTIMENT_HOME") == str(
                    self.settings.home
                ):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the product in this home."""
        return subprocess.run(
            [sys.executable, "-m", "sentiment_assets", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def heartbeat(self) -> Heartbeat:
        """Of the stream that scores, waiting for one if need be, and for its successor where one always stands by."""
        self.wait_until(lambda: self.scores(), 240, "the stream scores")
        if self.settings.standby == "always":
            self.wait_until(self._stands_by, 240, "a successor stands by")
        beat = read_heartbeat(self.settings)
        assert beat is not None
        return beat

    def _stands_by(self) -> bool:
        standby = read_standby(self.settings)
        return standby is not None and standby.running and standby.phase is Phase.STANDBY

    def scores(self, not_pid: int | None = None) -> bool:
        """Whether a stream (another process than ``not_pid``) runs and has committed rows."""
        beat = read_heartbeat(self.settings)
        return beat is not None and beat.running and beat.ready and beat.rows > 0 and beat.pid != not_pid

    def commits(self) -> list[float]:
        """When each commit of the predictions became visible, in order."""
        table = self.settings.table("predictions")
        moments = {int(file.stem): file.stat().st_mtime for file in (table / "_delta_log").glob("*.json")}
        archive = Archive(table)
        for version in range(min(moments, default=0)):
            for action in archive.actions(version) or ():
                if "commitInfo" in action:
                    moments[version] = action["commitInfo"]["timestamp"] / 1000
        return sorted(moments.values())

    def longest_pause(self, since: float) -> float:
        """Longest time without a commit from ``since`` till now."""
        return max(seconds for seconds, _ in self.pauses(since))

    def pauses(self, since: float) -> list[tuple[float, float]]:
        """Seconds between commits from ``since`` till now, and when each pause began."""
        moments = [since, *(moment for moment in self.commits() if moment > since), time.time()]
        return [(later - earlier, earlier) for earlier, later in pairwise(moments)]

    def said_since(self, mark: int) -> str:
        """What ``up`` printed after a mark of :meth:`mark`, without its live figures."""
        with self.log.open("rb") as file:
            file.seek(mark)
            lines = file.read().decode(errors="replace").splitlines()
        told = [line.strip() for line in lines if line.strip() and not line.startswith("live")]
        return " / ".join(dict.fromkeys(told))

    def mark(self) -> int:
        """Where the log of ``up`` ends now."""
        return self.log.stat().st_size

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        """Poll until it holds; returns the seconds that took."""
        begun = time.monotonic()
        pause = threading.Event()
        while time.monotonic() - begun < seconds:
            if condition():
                return time.monotonic() - begun
            pause.wait(0.1)
        raise TimeoutError(
            f"Within {seconds:.0f} s it did not come true that {what}. {self.said_since(0)[-2000:]}"
        )

    def _is_drained(self) -> bool:
        status = read_status(self.settings)
        return status["lag"] == 0 and status["pending"] == 0

    def _produce(self) -> None:
        bootstrap = EmbeddedBroker(self.settings).status().bootstrap
        assert bootstrap is not None
        try:
            self._sent = produce(
                self._messages(),
                Cluster(bootstrap),
                self.settings.topic,
                rate=self.rate,
                stop=self._stop,
                delivery_seconds=300,
            )
        except Exception as error:
            self._fault = error

    def _messages(self) -> Iterator[Message]:
        number = 0
        while True:
            number += 1
            if self._bad_every and number % self._bad_every == 0:
                yield Message(None, b"{no json")
            else:
                text = " ".join(_WORDS[(number * step) % len(_WORDS)] for step in range(1, 12))
                value = {"id": str(number), "text": f"{text} {number}", "author": f"a{number % 97}"}
                yield Message(str(number).encode(), json.dumps(value).encode())


def say(text: str) -> None:
    """One line on stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
