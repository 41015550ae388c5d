"""The compiled kernel against the fitted pipelines it is made from, on whatever text there is."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.ml import PipelineModel

from sentiment_assets.settings import Settings
from sentiment_assets.spark.compiled.agreement import compare, hostile_texts
from sentiment_assets.spark.compiled.export import (
    NotCompilableError,
    character_classes,
    export_tables,
    frequent_terms,
)
from sentiment_assets.spark.compiled.kernel import LETTER, LINE_END, SPACE, WORD
from sentiment_assets.spark.compiled.model import CompiledModel
from sentiment_assets.spark.features import VARIANTS, fit_features
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.session import KERNEL_CACHE
from sentiment_assets.spark.training import ALGORITHMS, cached_vectors, fit_candidate
from sentiment_assets_tests.spark.conftest import made_up_tweets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession

# Each of them as a word of its own, in words, negated, last, and twice: the model learns terms of every kind.
_ODD = (
    "\U0001f600",
    "\U0001d41a\U0001d41b",
    "caf\u00e9",
    "don't",
    "not",
    "\x85",
    "\u0130x",
    "www.a",
    "@b",
    "\u3042",
)


@pytest.fixture(scope="module")
def odd(spark: "SparkSession") -> "DataFrame":
    """Columns ``text, label``: made-up tweets with characters that regular expressions stumble over."""
    rows = [
        (
            f"{_ODD[n % 10]}{_ODD[n % 7]} {text} {_ODD[n % 3]} {_ODD[n % 9]}, but {_ODD[n % 10]} {_ODD[n % 4]}",
            label,
        )
        for n, (text, label) in enumerate(made_up_tweets(300))
    ]
    return spark.createDataFrame(rows, "text STRING, label DOUBLE").coalesce(2).cache()


def fitted(odd: "DataFrame", algorithm: str, variant: str = "nb_ngrams", **params: int) -> PipelineModel:
    chosen = VARIANTS[variant]
    features = fit_features(chosen, odd, chosen.params(params))
    with cached_vectors(features, odd) as vectors:
        return fit_candidate(features.model, vectors, ALGORITHMS[algorithm], seed=1)


def compiled(pipeline: PipelineModel, folder: Path, home: Settings) -> CompiledModel:
    folder.mkdir()
    export_tables(pipeline).save(folder)
    return CompiledModel(folder, home.kernel_cache)


@pytest.fixture(scope="module")
def pipeline(odd: "DataFrame") -> PipelineModel:
    return fitted(odd, "logistic_regression")


@pytest.fixture(scope="module")
def kernel(
    pipeline: PipelineModel, session_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> CompiledModel:
    return compiled(pipeline, tmp_path_factory.mktemp("compiled") / "tables", session_settings)


def frame(spark: "SparkSession", texts: "Sequence[str | None]") -> "DataFrame":
    return spark.createDataFrame([(text,) for text in texts], "text STRING").coalesce(2)


def test_it_agrees_with_the_pipeline_on_the_training_rows_and_on_hostile_texts(
    spark: "SparkSession", odd: "DataFrame", pipeline: PipelineModel, kernel: CompiledModel
) -> None:
    hostile = hostile_texts(frequent_terms(pipeline, 500), seed=7, count=1000)
    found = compare(pipeline, kernel, odd.select("text").union(frame(spark, hostile)))
    assert found.rows == 300 + len(hostile)
    assert (found.labels_differ, found.holds) == (0, True)
    assert found.max_difference < 1e-12


@given(texts=st.lists(st.text(max_size=60), min_size=100, max_size=100))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_it_agrees_with_the_pipeline_on_any_unicode_text(
    spark: "SparkSession", pipeline: PipelineModel, kernel: CompiledModel, texts: list[str]
) -> None:
    # Words the model knows between the generated ones; without them every score would be the intercept's.
    mixed = [f"love {text}sad {text[::-1]}, but not {text}happy" for text in texts]
    assert compare(pipeline, kernel, frame(spark, mixed)).holds


def test_a_text_of_a_megabyte_agrees_too(
    spark: "SparkSession", pipeline: PipelineModel, kernel: CompiledModel
) -> None:
    texts = ["love, not sad! " * 70_000, "\U0001f600 @a www.b " * 80_000]
    assert compare(pipeline, kernel, frame(spark, texts)).holds


def test_bytes_that_are_not_utf8_are_read_as_the_pipeline_reads_them(
    spark: "SparkSession", pipeline: PipelineModel, kernel: CompiledModel
) -> None:
    broken = ["C3", "F09F98", "EDA0BD", "C0AF", "F8888080", "80808080", "E282", "FF", "F4908080"]
    texts = spark.createDataFrame([(code,) for code in broken], "code STRING").selectExpr(
        "CAST(concat(CAST('love ' AS BINARY), unhex(code), CAST(' sad' AS BINARY), unhex(code)) AS STRING) AS text"
    )
    assert compare(pipeline, kernel, texts).holds


@pytest.mark.parametrize("algorithm", ["naive_bayes", "linear_svm"])
def test_the_other_linear_classifiers_agree_too(
    spark: "SparkSession", odd: "DataFrame", tmp_path: Path, session_settings: Settings, algorithm: str
) -> None:
    pipeline = fitted(odd, algorithm)
    kernel = compiled(pipeline, tmp_path / "tables", session_settings)
    assert compare(pipeline, kernel, odd).holds


def test_a_model_without_character_ngrams_agrees_too(
    odd: "DataFrame", tmp_path: Path, session_settings: Settings
) -> None:
    pipeline = fitted(odd, "logistic_regression", character_order=0)
    assert compare(pipeline, compiled(pipeline, tmp_path / "tables", session_settings), odd).holds


def test_models_without_a_kernel_say_why(odd: "DataFrame") -> None:
    with pytest.raises(NotCompilableError, match="text rules"):
        export_tables(fitted(odd, "logistic_regression", variant="hashing", buckets=64))
    trees = fitted(odd, "decision_tree", vocabulary_size=50)
    with pytest.raises(NotCompilableError, match="not linear"):
        export_tables(trees)


def test_a_stage_that_was_exchanged_is_noticed(pipeline: PipelineModel) -> None:
    stages = list(pipeline.stages)
    without_norm = [stage for stage in stages if type(stage).__name__ != "Normalizer"]
    with pytest.raises(NotCompilableError, match="stages behind ml_terms"):
        export_tables(PipelineModel(stages=without_norm))


def test_columns_of_the_caller_pass_through(spark: "SparkSession", kernel: CompiledModel) -> None:
    rows = spark.createDataFrame(
        [(1, "love", 7.0), (2, None, 7.0)], "`a.b` INT, text STRING, probability DOUBLE"
    )
    scored = score(kernel, rows)
    assert scored.columns == ["a.b", "text", "probability"]
    assert all(0 < row["probability"] < 1 for row in scored.collect())


def test_character_classes_are_kept_and_a_broken_file_is_asked_for_anew(
    spark: "SparkSession", tmp_path: Path
) -> None:
    asked = character_classes.__wrapped__(spark)
    before = spark.conf.get(KERNEL_CACHE)
    spark.conf.set(KERNEL_CACHE, str(tmp_path))
    try:
        np.testing.assert_array_equal(character_classes.__wrapped__(spark), asked)
        (kept,) = tmp_path.iterdir()
        other = np.full_like(asked, 7)
        np.save(kept, other)
        np.testing.assert_array_equal(character_classes.__wrapped__(spark), other)
        for broken in (b"", b"not an array", kept.read_bytes()[:2000]):
            kept.write_bytes(broken)
            np.testing.assert_array_equal(character_classes.__wrapped__(spark), asked)
        assert list(tmp_path.iterdir()) == [kept]
    finally:
        spark.conf.set(KERNEL_CACHE, before)


def test_character_classes_are_those_of_java(spark: "SparkSession") -> None:
    classes = character_classes(spark)
    expected = {
        "a": LETTER | WORD,
        "\u3042": LETTER | WORD,
        "\U0001d41a": LETTER | WORD,
        "1": WORD,
        "\u0661": WORD,
        "_": WORD,
        " ": SPACE,
        "\n": SPACE | LINE_END,
        "\x85": LINE_END,
        "\u2028": SPACE | LINE_END,
        "\u3000": SPACE,
        "\u0301": 0,
        "\U0001f600": 0,
    }
    assert {character: int(classes[ord(character)]) for character in expected} == expected
