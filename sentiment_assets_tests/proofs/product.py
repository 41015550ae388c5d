"""The product as a proof uses it: its commands, in a home of its own, and a model to score with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from sentiment_assets.settings import Settings

DEADLINE_SECONDS = 540


def command(settings: Settings, *arguments: str) -> dict[str, Any]:
    """Run a command and read its JSON.

    Raises
    ------
    RuntimeError
        When it fails, with what it said.
    """
    answer = subprocess.run(
        [sys.executable, "-m", "sentiment_assets", *arguments, "--json"],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    if answer.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {answer.stderr[-2000:]}")
    return dict(json.loads(answer.stdout))


def environment(settings: Settings) -> dict[str, str]:
    """Environment of a command in this home."""
    return os.environ | {"SENTIMENT_HOME": str(settings.root), "SENTIMENT_TOPIC": settings.topic}


def give_model(settings: Settings, models: Path | None) -> Path:
    """Copy a folder of models into the home, or train a small one there; returns the home's."""
    if models is None:
        command(settings, "train", "--data", "sample", "--rows", "4000")
    else:
        shutil.copytree(models, settings.models, dirs_exist_ok=True)
    return settings.models
