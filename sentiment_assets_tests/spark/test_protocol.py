"""Other protocols: the published split as its code makes it, authors on one side only, one fit measured twice."""

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from sentiment_assets.spark.cleaning import split_by_author
from sentiment_assets.spark.learning import part_of
from sentiment_assets.spark.protocol import measure, split_rows
from sentiment_assets.spark.scoring import sentiment_expr
from sentiment_assets.spark.training import CANDIDATES
from sentiment_assets_tests.spark.conftest import made_up_tweets

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 tweets in Sentiment140's format, some of them twice, by 60 authors."""
    path = tmp_path_factory.mktemp("protocol") / "tweets.csv"
    draw = random.Random(1)
    lines = [
        f'"{4 if label else 0}","{number}","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY",'
        f'"author{draw.randrange(60)}","{text}"'
        for number, (text, label) in enumerate(made_up_tweets(600))
    ]
    path.write_text("\n".join(lines + lines[:50]) + "\n", encoding="ISO-8859-1")
    return path


def test_the_published_split_is_what_the_published_code_draws(spark: "SparkSession", file: Path) -> None:
    schema = "target INT, id STRING, date STRING, flag STRING, user STRING, text STRING"
    whole = spark.read.csv(str(file), schema=schema, encoding="ISO-8859-1", escape='"').dropna()
    expected = [
        sorted((row.text, float(row.target == 4)) for row in part.collect())
        for part in whole.randomSplit([0.8, 0.2], seed=2000)
    ]
    found = split_rows(spark, file, "published", encoding="ISO-8859-1", seed=1)
    assert [sorted((row.text, row.label) for row in part.collect()) for part in found] == expected
    assert sum(map(len, expected)) == 650


def test_no_author_stands_on_both_sides_and_unknown_ones_are_no_single_author(spark: "SparkSession") -> None:
    rows = [(f"{n:016x}", f"author{n % 50}") for n in range(1000)]
    rows += [
        (f"{n:016x}", name)
        for n, name in zip(range(1000, 2000), ["unknown", "", None, " "] * 250, strict=True)
    ]
    frame = spark.createDataFrame(rows, "text_key STRING, author STRING")
    train, test = (part.toPandas() for part in split_by_author(frame, seed=3))
    assert len(train) + len(test) == 2000
    known = [set(part.author[part.author.str.startswith("author", na=False)]) for part in (train, test)]
    assert known[0].isdisjoint(known[1])
    assert known[1]
    unknown = (~test.author.str.startswith("author", na=False)).sum()
    assert 130 < unknown < 270


def test_each_candidate_is_fitted_once_and_measured_on_test_and_manual_rows(
    spark: "SparkSession", file: Path, labelled: "DataFrame"
) -> None:
    train, test = split_rows(spark, file, "author", encoding="ISO-8859-1", seed=1)
    wanted = [CANDIDATES["capped_decision_tree"], CANDIDATES["count_naive_bayes"]]
    found = list(measure(train, test, wanted, manual=labelled, seed=1))
    assert [m.candidate.name for m in found] == ["count_naive_bayes", "capped_decision_tree"]
    for measured in found:
        assert measured.fitted.rows + measured.test.n <= 600
        assert measured.test.accuracy > 0.7
        assert measured.manual is not None
        assert measured.manual.n == 300


def test_a_smaller_part_lies_within_a_larger_one(spark: "SparkSession") -> None:
    rows = spark.range(2000).select(F.hex("id").alias("text_key"))
    parts = [
        {row[0] for row in part_of(rows, share, seed=1, purpose="learning").collect()}
        for share in (0.1, 0.5, 1)
    ]
    assert parts[0] < parts[1] < parts[2]
    assert 140 < len(parts[0]) < 260
    other = {row[0] for row in part_of(rows, 0.1, seed=1, purpose="validation").collect()}
    assert len(other & parts[0]) < len(parts[0]) / 2


def test_a_tweet_near_one_half_is_neutral_only_when_there_is_a_band(spark: "SparkSession") -> None:
    frame = spark.createDataFrame([(0.2,), (0.45,), (0.5,), (0.59,), (0.61,)], "probability DOUBLE")

    def sentiments(band: float) -> list[str]:
        column = sentiment_expr(F.col("probability"), band)
        return [row[0] for row in frame.select(column).collect()]

    assert sentiments(0.1) == ["negative", "neutral", "neutral", "neutral", "positive"]
    assert sentiments(0.0) == ["negative", "negative", "negative", "positive", "positive"]
