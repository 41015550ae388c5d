"""The whole product as a user starts it: one `up` for all tests of this folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from sentiment_assets.runtime.ports import free_port

START_SECONDS = 420


@dataclass
class Product:
    """A running `sentiment-assets up` and its home."""

    process: subprocess.Popen[bytes]
    home: Path
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SENTIMENT_HOME": str(self.home)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the product against this home."""
        return subprocess.run(
            [sys.executable, "-m", "sentiment_assets", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        result = self.run("status", "--json")
        assert result.returncode == 0, result.stderr
        return dict(json.loads(result.stdout))

    def descendants(self) -> list[psutil.Process]:
        """All processes that work for this home, found by their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SENTIMENT_HOME") == str(self.home):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def eventually(
    condition: Callable[[], bool], seconds: float, what: str, details: Callable[[], object] = lambda: ""
) -> None:
    """Poll until the condition holds; fail with what was awaited when the deadline passes."""
    deadline = time.monotonic() + seconds
    pause = __import__("threading").Event()
    while time.monotonic() < deadline:
        if condition():
            return
        pause.wait(0.5)
    pytest.fail(f"{what} did not happen within {seconds:.0f} s. {details()}")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """`up` on the generated sample, with a model trained and the first messages scored."""
    base = tmp_path_factory.mktemp("product")
    home, log, port = base / "home", base / "up.log", free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sentiment_assets", "up", "--data", "sample", "--rows", "4000",
             "--messages", "300", "--rate", "100", "--port", str(port)],
            env=os.environ
            | {
                "SENTIMENT_HOME": str(home),
                "SENTIMENT_KAFKA_PORT": str(free_port()),
                "SENTIMENT_TRAINING_MEMORY": "2g",
                "SENTIMENT_IDLE_SECONDS": "120",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    started = Product(process, home, port, log)
    try:
        eventually(
            lambda: process.poll() is not None or "scored 300 " in log.read_text(),
            START_SECONDS,
            "The first 300 predictions",
            log.read_text,
        )
        assert process.poll() is None, log.read_text()
        yield started
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=90)
            except subprocess.TimeoutExpired:
                process.kill()
        for left in started.descendants():
            left.kill()
