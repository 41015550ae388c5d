"""Care for the logs of the stream's tables, which every lease begins with. No JVM."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from sentiment_assets.lake.log import CHECKPOINT_COMMITS
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import ensure_table
from sentiment_assets.streaming.care import keep_logs_short
from sentiment_assets_tests.peers.predictions import append


@pytest.fixture
def table(settings: Settings) -> Path:
    """As long a log as one may have without a checkpoint; delta-rs writes none of its own in it either."""
    path = settings.table("predictions")
    ensure_table(path, PREDICTIONS)
    for number in range(CHECKPOINT_COMMITS - 1 - DeltaTable(str(path)).version()):
        append(path, number, number)
    return path


def checkpoints(table: Path) -> list[int]:
    return sorted(int(file.name[:20]) for file in (table / "_delta_log").glob("*.checkpoint.parquet"))


def test_a_lease_leaves_no_long_log_without_a_checkpoint(settings: Settings, table: Path) -> None:
    keep_logs_short(settings)
    assert checkpoints(table) == [], "none is due yet"
    newest = append(table, 1_000, 1_000)
    keep_logs_short(settings)
    assert checkpoints(table) == [newest]


def test_a_log_that_cannot_be_read_is_told_and_ends_no_lease(
    settings: Settings, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = table / "_delta_log" / f"{CHECKPOINT_COMMITS - 1:020}.json"
    damaged.write_text("{no json")
    keep_logs_short(settings)
    assert "No checkpoint of predictions was written" in caplog.text
    assert damaged.exists()


def test_there_need_be_no_table_yet(settings: Settings) -> None:
    keep_logs_short(settings)
    assert not settings.table("predictions").exists()
