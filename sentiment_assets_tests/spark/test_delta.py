"""Delta tables: explicit, atomic, guarded, readable without a JVM."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from sentiment_assets.failures import TableError
from sentiment_assets.lake.log import pin, trim
from sentiment_assets.lake.opening import open_table
from sentiment_assets.resources.provenance import Provenance, read_provenance, same_provenance
from sentiment_assets.schemas import Column, Table
from sentiment_assets.settings import location
from sentiment_assets.spark import delta

TABLE = Table(
    "readings",
    "A table of these tests.",
    (
        Column("label", "INT", "0 or 4.", nullable=False),
        Column("share", "DOUBLE", "A share."),
        Column("text", "STRING", "A text.", nullable=False),
    ),
    constraints={"known_label": "label IN (0, 4)"},
    properties={"delta.checkpointInterval": "200"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lake" / "my readings"


def frame(spark, *rows: tuple[object, ...], schema: str = "label INT, share DOUBLE, text STRING"):
    return spark.createDataFrame(list(rows), schema)


def texts(spark, path: Path, version: int | None = None) -> list[str]:
    return sorted(row.text for row in delta.read(spark, path, version).collect())


def test_a_table_is_created_as_it_is_described(spark, path):
    delta.ensure_table(path, TABLE)
    delta.ensure_table(path, TABLE)
    described = spark.sql(f"DESCRIBE DETAIL delta.`{path}`").first()
    assert described.description == "A table of these tests."
    assert described.properties["delta.checkpointInterval"] == "200"
    assert described.properties["delta.constraints.known_label"] == "label = 0 OR label = 4"
    fields = {field.name: field for field in delta.read(spark, path).schema}
    assert {name: field.metadata["comment"] for name, field in fields.items()} == {
        "label": "0 or 4.",
        "share": "A share.",
        "text": "A text.",
    }
    # Spark's own reader calls every column nullable; the log knows better.
    assert [field.nullable for field in delta.open_existing(path).schema().fields] == [False, True, False]
    assert delta.row_count(path) == 0


def test_a_creation_that_broke_off_before_its_constraints_is_completed(spark, path):
    bare = Table(TABLE.name, TABLE.comment, TABLE.columns)
    delta.ensure_table(path, bare)
    delta.ensure_table(path, TABLE)
    with pytest.raises(TableError, match="known_label"):
        delta.overwrite(frame(spark, (3, 0.1, "x")), path, TABLE)


def test_content_is_replaced_in_one_commit_and_columns_are_cast_and_ordered(spark, path):
    first = delta.overwrite(frame(spark, (0, 0.5, "a"), (4, None, "b")), path, TABLE, {"data_version": "d1"})
    shuffled = frame(spark, ("c", 4, 1), schema="text STRING, label BIGINT, share INT")
    second = delta.overwrite(shuffled, path, TABLE, {"data_version": "d2"})
    assert second == first + 1 == delta.table_version(path)
    assert texts(spark, path) == ["c"]
    assert texts(spark, path, first) == ["a", "b"]
    assert delta.read(spark, path).dtypes == [("label", "int"), ("share", "double"), ("text", "string")]
    assert [commit.get("userMetadata") for commit in delta.history(path, 2)] == [
        '{"data_version": "d2"}',
        '{"data_version": "d1"}',
    ]


def test_a_table_can_be_replaced_by_rows_read_from_itself(spark, path):
    delta.overwrite(frame(spark, (0, 0.5, "a"), (4, None, "b")), path, TABLE)
    delta.overwrite(delta.read(spark, path).where("label = 4"), path, TABLE)
    assert texts(spark, path) == ["b"]


def test_counts_and_sizes_come_without_a_jvm(spark, path):
    delta.overwrite(frame(spark, *[(0, 0.5, f"row {i}") for i in range(50)]).repartition(3), path, TABLE)
    code = (
        "import sys; from pathlib import Path; from sentiment_assets.spark import delta; path = Path(sys.argv[1]);"
        "print(delta.table_exists(path), delta.row_count(path), *delta.file_stats(path), len(delta.history(path)));"
        "assert 'pyspark' not in sys.modules"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [
        "True",
        "50",
        "3",
        str(sum(file.stat().st_size for file in path.glob("*.parquet"))),
        "3",
    ]


def test_other_columns_are_refused_and_named(spark, path):
    with pytest.raises(TableError, match=r"missing columns: share, text; unknown columns: note"):
        delta.overwrite(frame(spark, (0, "x"), schema="label INT, note STRING"), path, TABLE)
    assert not delta.table_exists(path)


@pytest.mark.parametrize("row", [(3, 0.5, "unknown label"), (0, 0.5, None)])
def test_rows_that_break_a_constraint_leave_the_last_version_untouched(spark, path, row):
    version = delta.overwrite(frame(spark, (0, 0.5, "good")), path, TABLE)
    with pytest.raises(TableError, match="its last version is untouched"):
        delta.overwrite(frame(spark, (0, 0.5, "fine"), row), path, TABLE)
    assert delta.table_version(path) == version
    assert texts(spark, path) == ["good"]


def test_a_table_of_another_release_is_not_overwritten(spark, path):
    delta.overwrite(frame(spark, (0, 0.5, "good")), path, TABLE)
    wider = Table(TABLE.name, TABLE.comment, (*TABLE.columns, Column("lang", "STRING", "Language.")))
    with pytest.raises(TableError, match=r"another version of this product: lang differ.*reset --all"):
        delta.ensure_table(path, wider)


def test_a_table_that_was_never_written_is_named(spark, path):
    for ask in (delta.table_version, delta.row_count, delta.file_stats, delta.history):
        with pytest.raises(TableError, match="my readings does not exist"):
            ask(path)
    with pytest.raises(TableError, match="my readings does not exist"):
        delta.read(spark, path)
    assert not delta.table_exists(path)


def test_a_version_that_was_never_written_is_named(spark, path):
    delta.ensure_table(path, TABLE)
    with pytest.raises(TableError, match="has no version 7"):
        delta.read(spark, path, 7)


def test_only_one_process_writes_a_table_and_within_it_the_lock_may_be_taken_again(spark, path):
    delta.overwrite(frame(spark, (0, 0.5, "good")), path, TABLE)
    code = (
        "import sys; from pathlib import Path; from sentiment_assets.spark import delta\n"
        "with delta.writer_lock(Path(sys.argv[1])):\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(TableError, match="Another process writes the table my readings"):
            delta.overwrite(frame(spark, (4, 0.5, "late")), path, TABLE)
        other.kill()
    with delta.writer_lock(path):
        delta.overwrite(frame(spark, (4, 0.5, "late")), path, TABLE)
    assert texts(spark, path) == ["late"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("there is no mount command here")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run([umount, "--lazy", str(folder)], check=True)


def test_a_full_disk_is_named_and_the_last_version_stays(spark, small_disk):
    path = small_disk / "readings"
    version = delta.overwrite(frame(spark, (0, 0.5, "good")), path, TABLE)
    large = spark.range(200_000).selectExpr("0 AS label", "rand() AS share", "uuid() AS text")
    with pytest.raises(TableError, match=r"No space left on device.*untouched.*Free some disk"):
        delta.overwrite(large, path, TABLE)
    assert delta.table_version(path) == version
    assert texts(spark, path) == ["good"]


def test_a_place_that_cannot_be_written_is_named(spark, tmp_path):
    (tmp_path / "lake").write_text("a file where the folder should be")
    with pytest.raises(TableError, match="could not be written"):
        delta.overwrite(frame(spark, (0, 0.5, "x")), tmp_path / "lake" / "readings", TABLE)


def test_compaction_and_vacuum_keep_the_rows(spark, path):
    delta.overwrite(frame(spark, *[(0, 0.5, f"row {i}") for i in range(40)]).repartition(4), path, TABLE)
    assert delta.file_stats(path).files == 4
    assert delta.compact(spark, path).files == 1
    delta.vacuum(spark, path)
    assert delta.row_count(path) == 40


def test_spark_goes_on_with_a_trimmed_log_and_still_reads_a_pinned_version(spark, tmp_path):
    path = tmp_path / "busy"
    rows = spark.range(10).coalesce(1)
    for number in range(30):
        writer = rows.write.format("delta").mode("append")
        (writer if number else writer.option("delta.checkpointInterval", "5")).save(str(path))
    pin(path, 7)
    assert trim(path, keep=9, least=1) == 19
    assert delta.read(spark, path, 7).count() == 80
    for _ in range(7):
        rows.write.format("delta").mode("append").save(str(path))
    delta.compact(spark, path)
    delta.vacuum(spark, path)
    assert delta.read(spark, path).count() == 370
    assert delta.row_count(path) == 370
    assert trim(path, keep=9, least=1) > 0
    # A session that has never seen the table, too.
    assert spark.newSession().read.format("delta").option("versionAsOf", 7).load(str(path)).count() == 80
    assert open_table(path, 7).to_pyarrow_table().num_rows == 80


def test_the_nightly_care_does_not_make_a_table_forget_what_it_was_made_of(spark, tmp_path):
    path = tmp_path / "rows"
    stated = {"provenance": Provenance("1", "file", "tweets.csv", "made up", "all rows").as_dict()}
    spark.range(5).write.format("delta").option("userMetadata", json.dumps(stated)).save(str(path))
    version = delta.table_version(path)
    for _ in range(3):
        delta.vacuum(spark, path)
    assert delta.table_version(path) == version
    assert read_provenance(path).source_note == "made up"


def test_parts_of_different_splits_are_not_taken_for_one(tmp_path):
    for name, split in (("train", "1"), ("test", "1"), ("test of another", "2")):
        provenance = Provenance(split, "file", "tweets.csv", "made up", "all rows", 0.2, int(split))
        stated = json.dumps({"provenance": provenance.as_dict()})
        properties = CommitProperties(custom_metadata={"userMetadata": stated})
        write_deltalake(tmp_path / name, pa.table({"label": [1.0]}), commit_properties=properties)
    assert same_provenance(tmp_path / "train", tmp_path / "test").seed == 1
    with pytest.raises(TableError, match="train and test of another are parts of different splits"):
        same_provenance(tmp_path / "train", tmp_path / "test of another")


def test_local_properties_are_for_a_table_on_this_machine(path, tmp_path):
    here = replace(TABLE, local_properties={"delta.checkpointInterval": "1000000000"})
    delta.ensure_table(path, here)
    assert DeltaTable(str(path)).metadata().configuration["delta.checkpointInterval"] == "1000000000"
    elsewhere = location(f"file://{tmp_path}/objects/rows")
    delta.ensure_table(elsewhere, here)
    assert DeltaTable(str(elsewhere)).metadata().configuration["delta.checkpointInterval"] == "200"


def test_a_table_of_an_older_release_gets_todays_properties(spark, path):
    delta.ensure_table(path, TABLE)
    newer = replace(TABLE, properties=TABLE.properties | {"delta.checkpointInterval": "300"})
    delta.ensure_table(path, newer)
    version = delta.table_version(path)
    delta.ensure_table(path, newer)
    assert delta.table_version(path) == version
    found = {row.key: row.value for row in spark.sql(f"SHOW TBLPROPERTIES delta.`{path}`").collect()}
    assert found["delta.checkpointInterval"] == "300"
    assert "delta.constraints.known_label" in found
