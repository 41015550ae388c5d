"""Dagster's instance follows a home that was moved, and a new release of Dagster."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import dagster
import pytest
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

from sentiment_assets.failures import SetupError
from sentiment_assets.local.instance import migrate_instance, open_instance, prepare_instance
from sentiment_assets.settings import Settings


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Keep ``DAGSTER_HOME`` of this process as it was."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY"):
            patch.setenv(name, os.environ.get(name, ""))
        yield


def revision(settings: Settings, write: str | None = None) -> str:
    """Revision of the tables of runs, as alembic records it."""
    with closing(sqlite3.connect(settings.dagster_home / "history" / "runs.db")) as runs, runs:
        if write is not None:
            runs.execute("UPDATE alembic_version SET version_num = ?", [write])
        (found,) = runs.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(found)


def test_dagsters_configuration_names_no_place_so_that_a_home_can_be_moved(settings: Settings) -> None:
    with open_instance(settings) as instance:
        assert instance.get_runs() == []
    written = (settings.dagster_home / "dagster.yaml").read_text()
    assert str(settings.root.parent) not in written
    moved = Settings(home=settings.root.rename(settings.root.with_name("elsewhere")))
    with open_instance(moved) as instance:
        manager = instance.compute_log_manager
        assert isinstance(manager, LocalComputeLogManager)
        assert manager.get_captured_local_path(["a", "run"], "err").startswith(str(moved.root))
    assert not settings.root.exists()


def test_a_file_of_somebody_else_is_left_alone(settings: Settings) -> None:
    settings.prepare()
    file = settings.dagster_home / "dagster.yaml"
    file.write_text("telemetry:\n  enabled: false\n")
    prepare_instance(settings)
    assert file.read_text() == "telemetry:\n  enabled: false\n"


def test_tables_of_an_older_dagster_are_migrated_once(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_instance(settings) as instance:
        assert instance.get_runs() == []
        newest = revision(settings)
        mark = settings.dagster_home / "dagster.version"
        mark.write_text("1.0.0")
        # The revision before the newest; its step asks first whether it is needed.
        assert revision(settings, write="6b7fb194ff9c") != newest
        assert migrate_instance(settings, instance)
        assert revision(settings) == newest
        assert mark.read_text() == dagster.__version__
        assert not migrate_instance(settings, instance)
    assert capsys.readouterr().out == "", "standard output may be one JSON object"


def test_tables_of_a_newer_dagster_are_refused(settings: Settings) -> None:
    with open_instance(settings) as instance:
        assert instance.get_runs() == []
        revision(settings, write="of the future")
        with pytest.raises(SetupError, match="do not fit Dagster"):
            migrate_instance(settings, instance)
    assert not (settings.dagster_home / "dagster.version").exists()
