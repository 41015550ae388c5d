"""Old data files go when nothing that can be read needs them, and not before. No JVM."""

import os
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from sentiment_assets.lake.cleaning import remove_old_files
from sentiment_assets.lake.log import pin, trim
from sentiment_assets.lake.opening import open_table
from sentiment_assets_tests.peers.predictions import append, checksum, table_rows

DAY = 86_400


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six commits, merged into one file, and two more."""
    path = tmp_path / "predictions"
    for number in range(6):
        append(path, 10 * number, 10 * number + 9)
    DeltaTable(str(path)).optimize.compact()
    for number in (6, 7):
        append(path, 10 * number, 10 * number + 9)
    return path


def files(table: Path) -> int:
    return len(list(table.glob("*.parquet")))


def made_old(table: Path, days: float) -> None:
    for file in table.glob("*.parquet"):
        os.utime(file, (time.time() - days * DAY, time.time() - days * DAY))


def test_files_that_were_replaced_a_week_ago_are_deleted_and_no_row_is_lost(table: Path) -> None:
    before = checksum(table_rows(table))
    (table / ".part-of-nobody.parquet.crc").touch()
    assert files(table) == 9
    assert remove_old_files(table, now=time.time() + 7.1 * DAY) == 6
    assert files(table) == 3
    assert checksum(table_rows(table)) == before


def test_old_files_that_were_replaced_lately_stay(table: Path) -> None:
    made_old(table, 30)
    assert remove_old_files(table) == 0
    pin(table, 3)
    append(table, 80, 89)
    DeltaTable(str(table)).create_checkpoint()
    append(table, 90, 99)
    # Also when the commit that took them away stands in the archive alone.
    assert trim(table, keep=1, least=1) > 0
    made_old(table, 30)
    assert remove_old_files(table) == 0
    assert open_table(table, 3).to_pyarrow_table().num_rows == 40


def test_young_files_that_no_commit_has_yet_stay_and_old_ones_go(table: Path) -> None:
    for name, days in (("part-young.parquet", 1), ("part-old.parquet", 8)):
        (table / name).write_bytes(b"rows of a batch that was killed")
        os.utime(table / name, (time.time() - days * DAY, time.time() - days * DAY))
    assert remove_old_files(table) == 1
    assert (table / "part-young.parquet").exists()
    assert not (table / "part-old.parquet").exists()
