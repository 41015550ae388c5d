"""Labelled files into DataFrames: what is used, what is set aside, which sample."""

import zipfile
from pathlib import Path

import pytest

from sentiment_assets.schemas import RAW_TWEETS, REJECTED_ROWS
from sentiment_assets.sources.generated import tweets
from sentiment_assets.sources.sentiment140 import inspect, iter_rows
from sentiment_assets.sources.sentiment140.rows import TRAINING_MEMBER
from sentiment_assets.spark.raw import read_labelled, read_raw, version_of

GOOD = [
    '"0","1","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","ann","my umbrella broke, ""again"""',
    '"4","2","Mon Apr 06 22:19:49 PDT 2009","NO_QUERY","bob","caf\xe9 with friends \\ sunshine"',
]
BAD = {
    "not six columns": ['"0","3","d"', '"0","3","d","f","a","x","one too many"'],
    "unknown label": ['"1","4","d","f","a","x"', '"","4","d","f","a","x"'],
    "neutral label": ['"2","5","d","f","a","at the station"'],
    "no id": ['"4","","d","f","a","x"', '"4",,"d","f","a","x"'],
    "empty text": ['"4","6","d","f","a",""', '"4","6","d","f","a","  "'],
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    # Brackets and a percent sign in the name: neither a pattern nor an escape.
    path = tmp_path / "my [tweets] 100%.csv"
    lines = [GOOD[0], *(line for lines in BAD.values() for line in lines), GOOD[1]]
    path.write_text("\n".join(lines) + "\n", encoding="iso8859-1")
    return path


def generated_file(path: Path, rows: int = 400) -> Path:
    lines = [",".join(f'"{field}"' for field in row) for row in tweets(rows, seed=6)]
    path.write_text("\n".join(lines) + "\n", encoding="iso8859-1")
    return path


def test_usable_rows_come_as_they_stand_and_the_others_with_their_reason(spark, mixed):
    read = read_raw(spark, mixed)
    assert read.tweets.columns == RAW_TWEETS.column_names
    assert [(row.target, row.tweet_id, row.text) for row in read.tweets.orderBy("tweet_id").collect()] == [
        (0, "1", 'my umbrella broke, "again"'),
        (4, "2", "caf\xe9 with friends \\ sunshine"),
    ]
    rejected = read.rejected.collect()
    assert read.rejected.columns == REJECTED_ROWS.column_names
    assert {
        reason: sum(row.reason == reason for row in rejected) for reason in {row.reason for row in rejected}
    } == {reason: len(lines) for reason, lines in BAD.items()}
    assert '"0","3","d"' in {row.row for row in rejected}


def test_a_row_of_seven_columns_is_not_used_whatever_is_selected(spark, mixed):
    assert read_raw(spark, mixed).tweets.count() == 2
    assert read_raw(spark, mixed).tweets.select("text").distinct().count() == 2


def test_spark_and_plain_python_read_the_same_rows(spark, tmp_path):
    path = generated_file(tmp_path / "generated.csv")
    in_spark = read_raw(spark, path).tweets.select("tweet_id", "target", "text").collect()
    assert sorted(map(tuple, in_spark)) == sorted(
        (row.tweet_id, row.target, row.text) for row in iter_rows(path)
    )


def test_the_sample_depends_on_the_seed_and_not_on_partitions(spark, tmp_path):
    path = generated_file(tmp_path / "generated.csv")

    def sample(rows: int, seed: int, bytes_per_partition: str = "128MB") -> list[tuple[object, ...]]:
        spark.conf.set("spark.sql.files.maxPartitionBytes", bytes_per_partition)
        try:
            return sorted(map(tuple, read_raw(spark, path, rows=rows, seed=seed).tweets.collect()))
        finally:
            spark.conf.unset("spark.sql.files.maxPartitionBytes")

    drawn = sample(100, seed=1)
    assert len(drawn) == 100
    assert sample(100, seed=1, bytes_per_partition="8KB") == drawn
    assert sample(100, seed=2) != drawn
    assert set(sample(50, seed=1)) < set(drawn)
    assert 25 < sum(row[0] == 4 for row in drawn) < 75
    assert len(sample(1000, seed=1)) == 400


def test_a_zip_is_unpacked_and_read_and_a_changed_zip_is_read_anew(spark, tmp_path):
    path = tmp_path / "trainingandtestdata.zip"
    for count in (40, 60):
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(generated_file(tmp_path / "part.csv", count), TRAINING_MEMBER)
        assert read_raw(spark, path).tweets.count() == count
        assert read_raw(spark, path).tweets.count() == count


@pytest.mark.parametrize("mark", ["", "\N{ZERO WIDTH NO-BREAK SPACE}"])
def test_utf_8_is_read_with_and_without_a_mark(spark, tmp_path, mark):
    path = tmp_path / "utf8.csv"
    path.write_text(mark + '"4","2","d","q","bob","caf\xe9 \N{SNOWMAN}"\n', encoding="utf-8")
    [row] = read_raw(spark, path, encoding="utf-8").tweets.collect()
    assert (row.target, row.text) == (4, "caf\xe9 \N{SNOWMAN}")


def test_a_file_to_evaluate_on_leaves_neutral_rows_out_and_counts_them(spark, mixed):
    read = read_labelled(spark, mixed)
    assert (read.neutral, read.rejected) == (1, 8)
    assert [(row.tweet_id, row.label) for row in read.tweets.orderBy("tweet_id").collect()] == [
        ("1", 0.0),
        ("2", 1.0),
    ]
    assert read.tweets.columns == ["tweet_id", "author", "label", "text"]


def test_the_data_version_follows_content_sample_and_code(tmp_path):
    found = inspect(generated_file(tmp_path / "a.csv"))
    other = inspect(generated_file(tmp_path / "b.csv", 402))
    same = inspect(generated_file(tmp_path / "c.csv"))

    def version(file=found, rows=100, seed=1, code_version="1"):
        return version_of(file, rows=rows, seed=seed, code_version=code_version)

    assert version() == version(file=same)
    assert (
        len({version(), version(file=other), version(rows=200), version(seed=2), version(code_version="2")})
        == 5
    )
    assert version(rows=None) == version(rows=None, seed=2) == version(rows=400)
