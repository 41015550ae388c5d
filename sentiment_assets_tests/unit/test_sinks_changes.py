"""What a sink has to write after a position: whole tables, commits, rescores, compactions, holes."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from sentiment_assets.failures import TableError
from sentiment_assets.sinks.changes import Batch, Position, TableChanges
from sentiment_assets_tests.peers.predictions import (
    SCHEMA,
    YEAR_0,
    YEAR_10000,
    append,
    checksum,
    rescore,
    rows,
    table_rows,
    with_times,
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "predictions"


def changes(table: Path) -> TableChanges:
    found = TableChanges.open(table)
    assert found is not None
    return found


def batches(table: Path, position: Position | None, most: int = 1000) -> list[Batch]:
    return list(changes(table).batches(position, most))


def keys(found: list[Batch]) -> set[tuple[int, int]]:
    return {
        (row["partition"], row["offset"])
        for batch in found
        for part in batch.tables()
        for row in part.to_pylist()
    }


def replayed(table: Path, position: Position | None, most: int = 1000) -> dict[Any, dict[str, Any]]:
    """What a sink would hold that begins empty."""
    held: dict[Any, dict[str, Any]] = {}
    for batch in changes(table).batches(position, most):
        for part in batch.tables():
            held |= {(r["topic"], r["partition"], r["offset"]): r for r in part.to_pylist()}
        for topic, partition, offsets in batch.deleted_keys():
            for offset in offsets.tolist():
                del held[topic, partition, offset]
    return held


def test_a_table_that_is_not_there_yet_is_nothing_to_follow(table: Path) -> None:
    assert TableChanges.open(table) is None


def test_a_new_sink_begins_with_all_files_and_ends_at_the_tables_version(table: Path) -> None:
    for number in range(5):
        append(table, number * 10, number * 10 + 9)
    found = batches(table, None, most=25)
    assert [batch.rows for batch in found] == [20, 20, 10]
    assert [batch.position.files for batch in found] == [2, 4, None]
    assert found[-1].position == Position(changes(table).table_id, 4, None, whole=True)
    assert len(keys(found)) == 50
    part = next(iter(found[0].tables()))
    assert part.schema.equals(SCHEMA.remove_metadata()) or part.schema.names == SCHEMA.names


def test_it_goes_on_in_the_middle_of_the_first_copy_even_when_the_table_has_moved_on(table: Path) -> None:
    for number in range(4):
        append(table, number * 10, number * 10 + 9)
    half = batches(table, None, most=20)[0]
    append(table, 40, 49)
    rest = batches(table, half.position, most=20)
    assert keys([half, *rest]) == keys(batches(table, None))
    assert not keys([half]) & keys(rest)
    assert rest[-1].position == Position(changes(table).table_id, 4, None, whole=False)


def test_small_commits_share_a_batch_and_large_ones_have_their_own(table: Path) -> None:
    append(table, 0, 9)
    (whole,) = batches(table, None)
    for number in range(1, 7):
        append(table, number * 10, number * 10 + 9)
    append(table, 1000, 1099)
    append(table, 70, 79)
    found = batches(table, whole.position, most=30)
    assert [(batch.rows, batch.position.version) for batch in found] == [
        (30, 3),
        (30, 6),
        (100, 7),
        (0, 7),
        (10, 8),
    ]
    assert batches(table, found[-1].position) == []


def test_a_compaction_is_passed_over_and_still_moves_the_position(table: Path) -> None:
    append(table, 0, 9)
    append(table, 10, 19)
    (whole,) = batches(table, None)
    DeltaTable(str(table)).optimize.compact()
    (found,) = batches(table, whole.position)
    assert (found.rows, found.files, found.position.version) == (0, (), 2)


def test_a_rescore_is_upserts_and_deletes_nothing(table: Path) -> None:
    append(table, 0, 99)
    (whole,) = batches(table, None)
    append(table, 100, 109)
    rescore(table, 0, 109, "model-2")
    append(table, 110, 119)
    found = batches(table, whole.position)
    assert [(batch.rows, batch.position.version) for batch in found] == [(10, 1), (110, 2), (0, 2), (10, 3)]
    assert [list(batch.deleted_keys()) for batch in found] == [[], [], [], []]
    held = replayed(table, whole.position)
    assert {row["model_version"] for key, row in held.items() if key[2] < 50} == {"model-2"}


def test_rows_that_were_deleted_from_the_table_are_deleted(table: Path) -> None:
    append(table, 0, 99)
    (whole,) = batches(table, None)
    DeltaTable(str(table)).delete("partition = 1 AND offset < 10")
    found = batches(table, whole.position)
    gone = [(partition, offsets.tolist()) for b in found for _topic, partition, offsets in b.deleted_keys()]
    assert gone == [(1, list(range(10)))]


def test_replaying_any_history_gives_the_table(table: Path) -> None:
    append(table, 0, 49)
    append(table, 50, 99)
    rescore(table, 0, 99, "model-2")
    DeltaTable(str(table)).delete("offset = 7")
    append(table, 100, 119)
    DeltaTable(str(table)).optimize.compact()
    append(table, 120, 149)
    expected = checksum(table_rows(table))
    assert expected[0] == 148
    assert checksum(replayed(table, None).values()) == expected
    first = Position(changes(table).table_id, -1, None, whole=False)
    for most in (10, 60, 1000):
        assert checksum(replayed(table, first, most).values()) == expected


def test_a_file_that_was_vacuumed_away_is_an_error_that_names_the_way_out(table: Path) -> None:
    append(table, 0, 9)
    (whole,) = batches(table, None)
    append(table, 10, 19)
    append(table, 20, 29)
    delta = DeltaTable(str(table))
    delta.optimize.compact()
    delta.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(TableError, match="vacuumed away") as failure:
        keys(batches(table, whole.position))
    assert "--resync" in failure.value.next_step


def test_a_version_that_is_gone_from_the_log_is_an_error_that_names_it(table: Path) -> None:
    append(table, 0, 9)
    (whole,) = batches(table, None)
    append(table, 10, 19)
    append(table, 20, 29)
    DeltaTable(str(table)).create_checkpoint()
    (table / "_delta_log" / f"{1:020}.json").unlink()
    with pytest.raises(TableError, match="Version 1 of the table predictions is gone"):
        batches(table, whole.position)


def test_another_table_at_the_same_place_is_not_mixed_into_the_sink(table: Path, tmp_path: Path) -> None:
    append(table, 0, 9)
    (whole,) = batches(table, None)
    other = tmp_path / "other"
    append(other, 0, 9)
    with pytest.raises(TableError, match="follows another table"):
        batches(other, whole.position)
    with pytest.raises(TableError, match="put back"):
        batches(table, Position(whole.position.table_id, 9, None, whole=False))


def test_columns_that_old_files_do_not_have_are_null(table: Path) -> None:
    write_deltalake(str(table), rows(0, 9).drop_columns(["author"]))
    (found,) = batches(table, None)
    (part,) = found.tables()
    assert part.column("author").null_count == 10


def test_statistics_of_times_before_the_year_1_keep_no_file_out(table: Path) -> None:
    write_deltalake(str(table), with_times(rows(0, 9), created_at=YEAR_0, kafka_timestamp=YEAR_0))
    (found,) = batches(table, None)
    (part,) = found.tables()
    assert part["created_at"].null_count == 10
    assert {time.isoformat() for time in part["kafka_timestamp"].to_pylist()} == {"0001-01-03T00:00:00+00:00"}


def test_statistics_of_times_after_the_year_9999_keep_no_file_out(table: Path) -> None:
    structs = {"delta.checkpoint.writeStatsAsStruct": "true", "delta.checkpoint.writeStatsAsJson": "false"}
    write_deltalake(str(table), rows(0, 9), configuration=structs)
    delta = DeltaTable(str(table))
    delta.create_checkpoint()
    # delta-rs leaves such a time out of the statistics; Spark does not.
    file = table / "_delta_log" / f"{0:020}.checkpoint.parquet"
    entries = pq.read_table(file)
    actions = entries.to_pylist()
    for action in actions:
        if action["add"] is not None:
            action["add"]["stats_parsed"]["maxValues"]["kafka_timestamp"] = YEAR_10000
    pq.write_table(pa.Table.from_pylist(actions, entries.schema), file)
    (found,) = batches(table, None)
    assert found.rows == len(keys([found])) == 10
