"""From a model and a frame to P(positive), batch and stream."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from sentiment_assets.spark.features import VARIANTS, fit_features
from sentiment_assets.spark.scoring import score, sentiment_expr
from sentiment_assets.spark.training import ALGORITHMS, cached_vectors, fit_candidate

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame, SparkSession


@pytest.fixture(scope="module")
def model(labelled: "DataFrame") -> "PipelineModel":
    fitted = fit_features(VARIANTS["nb_ngrams"], labelled)
    with cached_vectors(fitted, labelled) as vectors:
        return fit_candidate(fitted.model, vectors, ALGORITHMS["logistic_regression"], seed=1)


def test_only_probability_is_added_and_null_and_empty_texts_have_one(
    spark: "SparkSession", model: "PipelineModel"
) -> None:
    rows = [(1, "love this, so happy"), (2, "ugh, so sad"), (3, None), (4, "")]
    frame = spark.createDataFrame(rows, "`a.b` INT, text STRING")
    scored = score(model, frame)
    assert scored.columns == ["a.b", "text", "probability"]
    good, bad, null, empty = [row["probability"] for row in scored.orderBy("`a.b`").collect()]
    assert good > 0.5 > bad
    assert null == empty
    assert 0 < null < 1


def test_a_column_probability_of_the_caller_is_replaced(
    spark: "SparkSession", model: "PipelineModel"
) -> None:
    frame = spark.createDataFrame([("love", 7.0)], "text STRING, probability DOUBLE")
    row = score(model, frame).first()
    assert row is not None
    assert row["probability"] <= 1


def test_a_stream_gets_the_same_probabilities_as_a_batch(
    spark: "SparkSession", model: "PipelineModel", labelled: "DataFrame", tmp_path: Path
) -> None:
    labelled.select("text").write.parquet(str(tmp_path / "in"))
    stream = score(model, spark.readStream.schema("text STRING").parquet(str(tmp_path / "in")))
    query = (
        stream.writeStream.format("memory")
        .queryName("scored_stream")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    assert query.awaitTermination(120)
    streamed = {tuple(row) for row in spark.table("scored_stream").collect()}
    assert streamed == {tuple(row) for row in score(model, labelled.select("text")).collect()}


def test_sentiment_is_positive_above_one_half(spark: "SparkSession") -> None:
    frame = spark.createDataFrame([(0.2,), (0.5,), (0.51,)], "p DOUBLE")
    rows = frame.select(sentiment_expr(F.col("p"))).collect()
    assert [row[0] for row in rows] == ["negative", "negative", "positive"]
