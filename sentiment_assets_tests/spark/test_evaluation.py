"""Figures of scored frames."""

import math
from typing import TYPE_CHECKING

import pytest

from sentiment_assets.failures import TrainingError
from sentiment_assets.spark.evaluation import collect_scores, evaluate, evaluate_halves, halves_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS = [
    ("selection", 1.0, 0.9),
    ("selection", 0.0, 0.6),
    ("selection", 0.0, 0.1),
    ("report", 1.0, 0.7),
    ("report", 0.0, 0.2),
]
SCHEMA = "half STRING, label DOUBLE, probability DOUBLE"


def test_halves_are_measured_apart_and_together(spark: "SparkSession") -> None:
    scored = spark.createDataFrame(ROWS, SCHEMA)
    halves = evaluate_halves(scored)
    assert halves.test == evaluate(scored)
    figures = halves.as_dict()
    assert figures["accuracy"] == 0.8
    assert (figures["selection_n"], figures["report_n"]) == (3, 2)
    assert figures["selection_accuracy"] == pytest.approx(2 / 3)
    assert figures["report_accuracy"] == 1.0
    assert figures["report_ci95_low"] < figures["report_ci95_high"] <= 1.0


def test_a_missing_half_is_named(spark: "SparkSession") -> None:
    with pytest.raises(TrainingError, match="'report'"):
        evaluate_halves(spark.createDataFrame(ROWS[:3], SCHEMA))


def test_a_model_that_gives_no_number_is_refused(spark: "SparkSession") -> None:
    with pytest.raises(TrainingError, match="not a number"):
        evaluate(spark.createDataFrame([("", 1.0, math.nan)], SCHEMA))


def test_no_rows_are_an_error(spark: "SparkSession") -> None:
    with pytest.raises(TrainingError, match="no labelled rows"):
        evaluate(spark.createDataFrame([], SCHEMA))


def test_collected_scores_give_the_same_figures_and_are_ordered_by_their_text(spark: "SparkSession") -> None:
    rows = [(f"{number:016x}", *row) for number, row in enumerate(ROWS)]
    scored = spark.createDataFrame(rows, f"text_key STRING, {SCHEMA}")
    found = collect_scores(scored)
    assert halves_of(found) == evaluate_halves(scored)
    again = collect_scores(scored.orderBy("text_key", ascending=False))
    assert again.key.tolist() == found.key.tolist() == sorted(found.key.tolist())
    assert again.probability.tolist() == found.probability.tolist()
