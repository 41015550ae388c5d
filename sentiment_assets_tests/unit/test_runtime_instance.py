"""Two instances in one home."""

import os
import subprocess
import sys

import pytest

from sentiment_assets.failures import SetupError, TrainingError
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.settings import Settings

TRAINS = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("trains", flush=True)
    sys.stdin.read()
"""

SECOND = """
from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.settings import Settings
try:
    with only_one(Settings.from_env(), "up"):
        print("entered")
except SetupError as error:
    print(error)
"""


def _second(settings: Settings) -> str:
    return subprocess.run(
        [sys.executable, "-c", SECOND],
        env={**os.environ, "SENTIMENT_HOME": str(settings.root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_a_second_process_is_refused_with_the_pid_of_the_first_until_that_ends(settings: Settings) -> None:
    with only_one(settings, "up"):
        refusal = _second(settings)
        assert f"pid {os.getpid()}" in refusal
        assert "SENTIMENT_HOME" in refusal
    assert _second(settings) == "entered\n"


def test_the_lock_of_a_crashed_process_is_free(settings: Settings) -> None:
    crash = "import os\n" + SECOND.replace('print("entered")', "os._exit(9)")
    env = {**os.environ, "SENTIMENT_HOME": str(settings.root)}
    assert subprocess.run([sys.executable, "-c", crash], env=env, timeout=60, check=False).returncode == 9
    with only_one(settings, "up"):
        pass


def test_other_activities_are_not_locked_out(settings: Settings) -> None:
    with only_one(settings, "up"), only_one(settings, "reset"):
        pass


def test_the_same_activity_twice_in_one_process_is_refused(settings: Settings) -> None:
    with only_one(settings, "up"), pytest.raises(SetupError), only_one(settings, "up"):
        pass


def test_a_second_training_is_refused_before_it_writes_anything(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentiment_assets.resources.spark._PATIENCE_SECONDS", 0.1)
    command = [sys.executable, "-c", TRAINS, str(settings.run / "training.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "trains\n"
        with pytest.raises(TrainingError, match=r"Another training is under way .*terminate its run"):
            SparkResource(settings, "training").session()
        first.communicate("")
