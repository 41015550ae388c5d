"""Forgetting everything: the one command that deletes SENTIMENT_HOME."""

import shutil
from contextlib import ExitStack

from sentiment_assets.failures import SetupError
from sentiment_assets.ingest.sources import SOURCES
from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.local.services import NAMES
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.runtime.processes import reap_recorded
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.sinks.configured import NAMES as NAMES_OF_SINKS
from sentiment_assets.spark.delta import writer_lock
from sentiment_assets.streaming.exclusive import exclude_streams

_OURS = (
    "dagster_home",
    "lake",
    "models",
    "checkpoints",
    "kafka",
    "logs",
    "run",
    "tmp",
    "downloads",
    "dist",
    "reports",
    "spool",
    "staging",
    "tuning",
)


def reset_everything(settings: Settings) -> None:
    """Stop what a crash left running and delete all state; the jar cache stays.

    Only the folders that the product makes are deleted, so that a SENTIMENT_HOME pointed at a folder with
    other files in it loses none of those.

    Raises
    ------
    SetupError
        When another command that writes runs in this home, or a folder cannot be deleted.
    StreamError
        When a stream runs in this home.
    """
    if not settings.root.exists():
        return
    settings.prepare()
    with ExitStack() as alone:
        others = (*(f"ingest {name}" for name in SOURCES), *(f"sink {name}" for name in NAMES_OF_SINKS))
        for activity in ("up", "train", "rescore", "backfill", "dead-letters replay", *others):
            alone.enter_context(only_one(settings, activity))
        alone.enter_context(exclude_streams(settings))
        for table in (PREDICTIONS, DEAD_LETTERS):
            with writer_lock(settings.table(table.name)):
                pass
        reap_recorded(settings, NAMES)
        EmbeddedBroker(settings).stop()
    try:
        for name in _OURS:
            folder = settings.root / name
            if folder.exists():
                shutil.rmtree(folder)
    except OSError as error:
        raise SetupError(
            f"{error.filename} cannot be deleted ({error.strerror}).",
            "Close what uses it, check its permissions, and run the command again.",
        ) from error
