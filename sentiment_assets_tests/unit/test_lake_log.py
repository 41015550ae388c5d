"""A short log of a busy table: what may go, what stays readable, and what followers still find. No JVM."""

import os
import threading
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from sentiment_assets.lake import log as logs
from sentiment_assets.lake.log import Archive, checkpoint, pin, trim
from sentiment_assets.lake.opening import open_table
from sentiment_assets.sinks.changes import TableChanges
from sentiment_assets_tests.peers.predictions import append, checksum, table_rows

COMMITS = 30


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Thirty commits of ten rows, with a checkpoint at version 20."""
    path = tmp_path / "predictions"
    for number in range(COMMITS):
        append(path, 10 * number, 10 * number + 9)
        if number == 20:
            DeltaTable(str(path)).create_checkpoint()
    return path


def commits(table: Path) -> list[int]:
    return sorted(int(file.stem) for file in (table / "_delta_log").glob("*.json"))


def test_commits_before_an_old_enough_checkpoint_leave_the_log_and_no_row_is_lost(table: Path) -> None:
    before = checksum(table_rows(table))
    assert trim(table, keep=10, least=1) == 0, "the checkpoint is nine commits old"
    assert trim(table, keep=9, least=1) == 20
    assert commits(table) == list(range(20, COMMITS))
    assert checksum(table_rows(table)) == before
    assert trim(table, keep=9, least=1) == 0
    append(table, 300, 309)
    assert DeltaTable(str(table)).version() == COMMITS


def test_a_checkpoint_is_written_when_the_newest_is_old(table: Path) -> None:
    before = checksum(table_rows(table))
    assert not checkpoint(table, every=10), "the one at version 20 is nine commits old"
    assert checkpoint(table, every=9)
    assert (table / "_delta_log" / f"{COMMITS - 1:020}.checkpoint.parquet").exists()
    assert not checkpoint(table, every=1)
    for file in (table / "_delta_log").glob("*.json"):
        if int(file.stem) < COMMITS - 1:
            file.unlink()
    assert checksum(table_rows(table)) == before


def test_a_few_commits_are_not_worth_a_file_of_the_archive(table: Path) -> None:
    assert trim(table, keep=9, least=21) == 0
    assert commits(table) == list(range(COMMITS))


def test_a_log_that_was_never_trimmed_is_trimmed_bit_by_bit(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checksum(table_rows(table))
    monkeypatch.setattr(logs, "_MOST_COMMITS", 8)
    assert [trim(table, keep=9, least=1) for _ in range(4)] == [8, 8, 4, 0]
    assert checksum(table_rows(table)) == before
    assert all(Archive(table).actions(version) is not None for version in range(20))


def test_a_pinned_version_stays_readable_and_its_neighbours_do_not(table: Path) -> None:
    pin(table, 7)
    trim(table, keep=9, least=1)
    assert commits(table) == [7, *range(20, COMMITS)]
    assert open_table(table, 7).to_pyarrow_table().num_rows == 80
    assert open_table(table).to_pyarrow_table().num_rows == 10 * COMMITS
    with pytest.raises(DeltaError):
        open_table(table, 8)


def test_a_pin_ends_after_its_week(table: Path) -> None:
    pin(table, 7)
    (mark,) = (table / "_log_archive").glob("*.pin")
    os.utime(mark, (time.time() - 7.1 * 86_400, time.time() - 7.1 * 86_400))
    trim(table, keep=9, least=1)
    assert commits(table) == list(range(20, COMMITS))
    assert not list((table / "_delta_log").glob("*7.checkpoint.parquet"))


def test_who_follows_the_table_finds_trimmed_commits_in_the_archive(table: Path) -> None:
    followed = TableChanges.open(table)
    assert followed is not None
    (position,) = [batch.position for batch in followed.batches(None, rows=10_000)]
    position = type(position)(position.table_id, 5, None, whole=False)
    before = [(batch.files, batch.position) for batch in followed.batches(position, rows=20)]
    trim(table, keep=9, least=1)
    reopened = TableChanges.open(table)
    assert reopened is not None
    assert [(batch.files, batch.position) for batch in reopened.batches(position, rows=20)] == before
    assert Archive(table).actions(19) is not None
    assert Archive(table).actions(20) is None


def test_a_first_copy_whose_version_was_trimmed_is_begun_again(table: Path) -> None:
    followed = TableChanges.open(table)
    assert followed is not None
    unfinished = type(next(iter(followed.batches(None))).position)(followed.table_id, 3, 2, whole=True)
    DeltaTable(str(table)).delete("offset < 3")
    trim(table, keep=9, least=1)
    reopened = TableChanges.open(table)
    assert reopened is not None
    batches = list(reopened.batches(unfinished, rows=100))
    assert sum(batch.rows for batch in batches) == 10 * COMMITS - 6
    assert batches[-1].position.version == COMMITS
    assert [batch.anew for batch in batches] == [True, False, False], (
        "what was copied and deleted must not stay"
    )


def test_a_trim_that_was_killed_is_done_again(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checksum(table_rows(table))
    removed: list[str] = []
    unlink = Path.unlink

    def killed(file: Path, missing_ok: bool = False) -> None:
        removed.append(file.name)
        if len(removed) > 5:
            raise KeyboardInterrupt
        unlink(file, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            trim(table, keep=9, least=1)
    assert checksum(table_rows(table)) == before
    trim(table, keep=9, least=1)
    assert commits(table) == list(range(20, COMMITS))
    assert all(Archive(table).actions(version) is not None for version in range(20))


def test_archived_commits_are_forgotten_after_a_week(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trim(table, keep=9, least=1)
    monkeypatch.setattr(logs, "DAYS", 0)
    trim(table, keep=9, least=1)
    assert Archive(table).actions(5) is None


def test_archived_commits_that_are_forgotten_beside_a_reader_are_none_for_him(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_MOST_COMMITS", 8)
    for _ in range(2):
        trim(table, keep=9, least=1)
    archive = Archive(table)
    assert archive.actions(5) is not None
    monkeypatch.setattr(logs, "DAYS", 0)
    trim(table, keep=9, least=1)
    assert archive.actions(10) is None


def test_a_commit_in_the_middle_of_opening_is_no_damage(table: Path) -> None:
    newest = table / "_delta_log" / f"{COMMITS - 1:020}.json"
    content = newest.read_bytes()
    newest.unlink()
    # What a look at the folder finds when a commit comes in between: its checksum, and not yet itself.
    checksum_file = newest.with_suffix(".crc")
    checksum_file.write_text('{"tableSizeBytes":1,"numFiles":1,"numMetadata":1,"numProtocol":1}')
    with pytest.raises(DeltaError, match="newer than log segment"):
        DeltaTable(str(table))
    threading.Timer(0.2, newest.write_bytes, [content]).start()
    assert open_table(table).version() == COMMITS - 1
