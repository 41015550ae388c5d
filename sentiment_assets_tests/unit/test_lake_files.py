"""Data files written beside Spark: what Delta is told of them, and that commits and merges lose nothing."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from sentiment_assets.lake import commits
from sentiment_assets.lake.commits import Appender, merge_small_files
from sentiment_assets.lake.files import DataFile, FileWriter, new_name, read_schema
from sentiment_assets.lake.log import checkpoint, trim
from sentiment_assets.lake.opening import open_table
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.spark.delta import ensure_table

_FAR = datetime(9998, 12, 31, 1, 2, 3, 4005, tzinfo=UTC)
_NEAR = datetime(2024, 5, 1, 1, 2, 3, 4005, tzinfo=UTC)


def rows(offsets: list[int], **columns: object) -> list[dict[str, object]]:
    row = {
        "tweet_id": None,
        "author": "ann",
        "created_at": _NEAR,
        "sentiment": "positive",
        "probability": 0.75,
        "model_version": "20240101-000000-a",
        "topic": "tweets",
        "partition": 0,
        "kafka_timestamp": _NEAR,
        "scored_at": _NEAR,
        "text": "hi",
    }
    return [{**row, "offset": offset, **columns} for offset in offsets]


def predicted(offsets: list[int]) -> pa.Table:
    """Predictions, as Arrow has them."""
    return pa.Table.from_pylist(rows(offsets), schema=read_schema(PREDICTIONS))


def write(table: Path, content: list[dict[str, object]]) -> DataFile:
    writer = FileWriter(table / new_name(), PREDICTIONS)
    batch = pa.Table.from_pylist(content, schema=read_schema(PREDICTIONS)).to_batches()[0]
    writer.write({name: batch.column(name) for name in batch.schema.names})
    return writer.close()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "predictions"
    ensure_table(path, PREDICTIONS)
    return path


def offsets(table: Path) -> list[int]:
    return sorted(open_table(table).to_pyarrow_table(columns=["offset"])["offset"].to_pylist())


def test_the_statistics_are_those_of_the_rows_and_no_narrower(table: Path) -> None:
    file = write(table, [*rows([7]), *rows([3, 9], created_at=None, topic="others", kafka_timestamp=_FAR)])
    assert (file.rows, file.size) == (3, (table / file.name).stat().st_size)
    found = json.loads(file.statistics)
    assert found["numRecords"] == 3
    assert found["minValues"]["offset"] == 3
    assert found["maxValues"]["offset"] == 9
    assert (found["minValues"]["topic"], found["maxValues"]["topic"]) == ("others", "tweets")
    # Milliseconds: the smallest rounded down, the largest up.
    assert found["minValues"]["kafka_timestamp"] == "2024-05-01T01:02:03.004Z"
    assert found["maxValues"]["kafka_timestamp"] == "9998-12-31T01:02:03.005Z"
    assert found["nullCount"] == {**dict.fromkeys(found["nullCount"], 0), "created_at": 2}
    assert "text" not in found["minValues"]


def test_rows_come_back_as_they_were_and_strings_as_strings(table: Path) -> None:
    content = rows([*range(5)], created_at=_FAR, text="caf\xe9 \U0001f600\0", tweet_id="1")
    file = write(table, content)
    Appender(table).append([file])
    assert open_table(table).to_pyarrow_table().to_pylist() == [
        {name: row[name] for name in PREDICTIONS.column_names} for row in content
    ]
    assert pq.read_schema(table / file.name).field("sentiment").type == pa.string()


def test_a_file_counts_from_its_commit_on(table: Path) -> None:
    file = write(table, rows([1, 2]))
    assert offsets(table) == []
    Appender(table).append([file])
    assert offsets(table) == [1, 2]
    actions = pa.table(open_table(table).get_add_actions(flatten=True)).to_pylist()
    assert [(action["num_records"], action["min.offset"], action["max.offset"]) for action in actions] == [
        (2, 1, 2)
    ]


def test_an_abandoned_file_is_gone(table: Path) -> None:
    writer = FileWriter(table / "part-x.parquet", PREDICTIONS)
    batch = pa.Table.from_pylist(rows([*range(1000)]), schema=read_schema(PREDICTIONS)).to_batches()[0]
    for _ in range(140):
        writer.write({name: batch.column(name) for name in batch.schema.names})
    assert (table / "part-x.parquet").exists()
    writer.abandon()
    assert not (table / "part-x.parquet").exists()


def test_small_files_become_one_and_large_ones_stay(table: Path) -> None:
    appender = Appender(table)
    large = write(table, rows([*range(20_000)], text="a text of some length that is repeated"))
    appender.append([large])
    for number in range(20_000, 20_010):
        appender.append([write(table, rows([number]))])
    before = open_table(table).version()
    assert merge_small_files(table, PREDICTIONS, small=large.size, large=10**9) == 10
    after = open_table(table)
    assert after.version() == before + 1
    assert offsets(table) == [*range(20_010)]
    names = {Path(path).name for path in after.file_uris()}
    assert len(names) == 2
    assert large.name in names
    # Readers of an older version still find its files, and those who follow changes see no new rows.
    assert len(DeltaTable(str(table), version=before).file_uris()) == 11
    entry = (table / "_delta_log" / f"{after.version():020}.json").read_text().splitlines()
    changes = [action.get("add") or action.get("remove") for action in map(json.loads, entry)]
    assert {change["dataChange"] for change in changes if change} == {False}
    assert merge_small_files(table, PREDICTIONS, small=large.size, large=10**9) == 0


def test_merged_files_have_a_largest_size(table: Path) -> None:
    files = [write(table, rows([number])) for number in range(7)]
    Appender(table).append(files)
    assert merge_small_files(table, PREDICTIONS, small=10**6, large=3 * files[0].size + 1) == 6
    assert len(open_table(table).file_uris()) == 3
    assert offsets(table) == [*range(7)]


def test_files_that_spark_wrote_with_wide_old_times_keep_them(table: Path) -> None:
    for number in range(2):
        content = pa.Table.from_pylist(rows([number], created_at=_FAR), schema=read_schema(PREDICTIONS))
        path = table / f"part-{number}.parquet"
        pq.write_table(content, path, use_deprecated_int96_timestamps=True)
        Appender(table).append([DataFile(path.name, path.stat().st_size, 1, '{"numRecords":1}')])
    assert merge_small_files(table, PREDICTIONS, small=10**6, large=10**9) == 2
    merged = open_table(table).to_pyarrow_table()
    assert merged["created_at"].to_pylist() == [_FAR] * 2


def test_a_merge_that_fails_leaves_the_table_and_no_file(table: Path) -> None:
    appender = Appender(table)
    files = [write(table, rows([number])) for number in range(3)]
    appender.append(files)
    (table / files[2].name).write_bytes(b"no parquet")
    before = sorted(entry.name for entry in table.iterdir())
    with pytest.raises((OSError, pa.ArrowInvalid)):
        merge_small_files(table, PREDICTIONS, small=10**6, large=10**9)
    assert sorted(entry.name for entry in table.iterdir()) == before


def test_appends_and_merges_at_the_same_time_lose_nothing(table: Path) -> None:
    """As the stream does: one thread commits batches, another merges what is small."""
    done = threading.Event()
    trouble: list[BaseException] = []

    def merge() -> None:
        try:
            while not done.is_set():
                merge_small_files(table, PREDICTIONS, small=10**6, large=10**9)
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=merge)
    thread.start()
    appender = Appender(table)
    for number in range(150):
        appender.append([write(table, rows([number]))])
    done.set()
    thread.join()
    assert not trouble
    assert offsets(table) == [*range(150)]


def test_commits_that_are_archived_meanwhile_are_not_missed(table: Path) -> None:
    """A lease commits for minutes, and its care moves the commits away that it began with."""
    appender = Appender(table)
    for number in range(30):
        appender.append([write(table, rows([number]))])
        if number % 10 == 9:
            assert checkpoint(table, every=1)
            assert trim(table, keep=0, least=1)
    assert offsets(table) == [*range(30)]


def test_a_merge_whose_commit_came_and_then_failed_takes_no_rows_away(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Appender(table).append([write(table, rows([number])) for number in range(3)])

    def trouble(*arguments: object) -> None:
        commit(*arguments)  # type: ignore[arg-type]
        raise DeltaError("Too many open files")

    commit = commits._commit
    monkeypatch.setattr(commits, "_commit", trouble)
    with pytest.raises(DeltaError):
        merge_small_files(table, PREDICTIONS, small=10**6, large=10**9)
    assert offsets(table) == [0, 1, 2]
    assert len(open_table(table).file_uris()) == 1


def test_another_writer_may_come_between(table: Path) -> None:
    first, second = Appender(table), Appender(table)
    for number in range(0, 10, 2):
        first.append([write(table, rows([number]))])
        second.append([write(table, rows([number + 1]))])
    write_deltalake(str(table), predicted([10]), mode="append")
    first.append([write(table, rows([11]))])
    assert offsets(table) == [*range(12)]
