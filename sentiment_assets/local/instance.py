"""Dagster's instance in SENTIMENT_HOME: its ``dagster.yaml``, how to open it, and how it follows a new release."""

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from sentiment_assets.failures import SetupError, first_line
from sentiment_assets.keys import JOB_RETRAIN, JOB_SCORE_STREAM, TAG_ROLE
from sentiment_assets.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

log = logging.getLogger(__name__)


def instance_config() -> dict[str, object]:
    """The content of ``dagster.yaml``. It names no place, so that a home can be moved; Dagster's own are in its folder.

    One training run at a time, since it writes tables that take a single writer; two streaming runs, of which one
    writes and the other prepares itself to go on (the stream's lock sees to that). With two sinks that makes five, and
    what a person materializes must not keep the stream waiting.
    Run monitoring marks runs whose process is gone as failed; ticks of sensors are purged, since a
    supervisor that ticks every few seconds would grow the database for ever.
    """
    return {
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
            "config": {
                "max_concurrent_runs": 8,
                "dequeue_interval_seconds": 1,
                "tag_concurrency_limits": [
                    {"key": TAG_ROLE, "value": JOB_RETRAIN, "limit": 1},
                    {"key": TAG_ROLE, "value": JOB_SCORE_STREAM, "limit": 2},
                ],
            },
        },
        "run_monitoring": {
            "enabled": True,
            "start_timeout_seconds": 180,
            "cancel_timeout_seconds": 60,
            "poll_interval_seconds": 15,
        },
        "sensors": {"use_threads": True, "num_workers": 4},
        "schedules": {"use_threads": True, "num_workers": 2},
        "retention": {
            "sensor": {"purge_after_days": {"skipped": 1, "failure": 7, "success": 7}},
            "schedule": {"purge_after_days": 30},
        },
    }


def prepare_instance(settings: Settings) -> None:
    """Create the folders and ``dagster.yaml``, and point ``DAGSTER_HOME`` of this process at them.

    A ``dagster.yaml`` that is already there is kept: it may have been edited, or mounted by a deployment.

    Raises
    ------
    SetupError
        When SENTIMENT_HOME cannot be written.
    """
    settings.prepare()
    config = settings.dagster_home / "dagster.yaml"
    if not config.exists():
        config.write_text(
            "# Written by sentiment-assets; edit freely, it is not overwritten.\n"
            + yaml.safe_dump(instance_config(), sort_keys=False)
        )
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")


def open_instance(settings: Settings) -> "DagsterInstance":
    """Open the instance of SENTIMENT_HOME; close it with ``with``."""
    from dagster import DagsterInstance

    prepare_instance(settings)
    return DagsterInstance.get()


def migrate_instance(settings: Settings, instance: "DagsterInstance") -> bool:
    """Bring Dagster's tables to the installed release of Dagster.

    Returns
    -------
    bool
        Whether they may have been another release's.

    Raises
    ------
    SetupError
        When they are a newer release's, or cannot be written.
    """
    import dagster
    from alembic.util import CommandError
    from sqlalchemy.exc import OperationalError

    mark = settings.dagster_home / "dagster.version"
    if mark.is_file() and mark.read_text(encoding="utf-8").strip() == dagster.__version__:
        return False
    log.info("Dagster's tables are brought to version %s.", dagster.__version__)
    try:
        # It prints; our standard output may be one JSON object.
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            instance.upgrade()
    except OperationalError as error:
        raise SetupError(
            f"The tables in {settings.dagster_home} cannot be brought to Dagster {dagster.__version__} ({error.orig}).",
            "Free some disk, stop what uses them (`sentiment-assets up`), and run the command again.",
        ) from error
    except CommandError as error:
        raise SetupError(
            f"The tables in {settings.dagster_home} do not fit Dagster {dagster.__version__} ({first_line(error)}).",
            "Use the release that wrote them. Or move that folder aside: it holds the history of runs, no results.",
        ) from error
    mark.write_text(dagster.__version__, encoding="utf-8")
    return True
