"""Feature variants on made-up tweets, and ours against MLlib's own estimators."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.classification import NaiveBayes
from pyspark.ml.feature import IDF, CountVectorizer, CountVectorizerModel

from sentiment_assets.failures import TrainingError
from sentiment_assets.spark import text
from sentiment_assets.spark.compiled.agreement import hostile_texts
from sentiment_assets.spark.features import FEATURES, VARIANTS, fit_features
from sentiment_assets.spark.vocabulary import count_vectorizer, learn_vocabulary, vocabulary_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SMALL = {"hashing": {"buckets": 256}, "hashing_default": {"buckets": 256}, "ngrams_chi2": {"selected": 50}}


@pytest.mark.parametrize("name", list(VARIANTS))
def test_each_variant_turns_text_null_and_empty_into_vectors(
    spark: "SparkSession", labelled: "DataFrame", name: str
) -> None:
    variant = VARIANTS[name]
    fitted = fit_features(variant, labelled, variant.params(SMALL.get(name, {})))
    frame = spark.createDataFrame([("so happy today",), ("",), (None,), ("zzzz qqqq",)], "text STRING")
    vectors = [row[0] for row in fitted.model.transform(frame).select(FEATURES).collect()]
    assert {v.size for v in vectors} == {fitted.vocabulary_size}
    assert vectors[0].numNonzeros() > 0
    assert fitted.rows == 300
    # Dagster refuses numpy's numbers as metadata.
    assert (type(fitted.vocabulary_size), type(fitted.mean_nonzero)) == (int, float)
    assert 0 < fitted.mean_nonzero < fitted.vocabulary_size
    assert fitted.sparsity == pytest.approx(1 - fitted.mean_nonzero / fitted.vocabulary_size)


def test_one_aggregation_counts_what_mllibs_estimators_count(labelled: "DataFrame") -> None:
    rows = PipelineModel(stages=[text.clean_tokens(), text.scoped_terms()]).transform(labelled).cache()
    vocabulary = learn_vocabulary(rows, terms=text.TERMS, label="label", min_documents=2, limit=10_000)
    theirs = CountVectorizer(inputCol=text.TERMS, outputCol="tf", binary=True, minDF=2).fit(rows)
    assert set(vocabulary.terms) == set(theirs.vocabulary)

    counted = count_vectorizer(vocabulary.terms, text.TERMS, "tf").transform(rows)
    idf = IDF(inputCol="tf", outputCol="x").fit(counted).idf.toArray()
    np.testing.assert_allclose(vocabulary.idf(), idf)
    negative, positive = NaiveBayes(featuresCol="tf", labelCol="label").fit(counted).theta.toArray()
    np.testing.assert_allclose(vocabulary.log_count_ratio(), positive - negative)
    rows.unpersist()


def test_a_vocabulary_is_read_as_it_was_written(spark: "SparkSession") -> None:
    for terms in (["a"], ["b", "\u00e9t\u00e9", "\U0001f600 x", "c\r", "\\n", ""], ["one\nline", "two"]):
        model = CountVectorizerModel.from_vocabulary(terms, "terms", "tf")
        assert vocabulary_of(model) == list(model.vocabulary) == terms


def test_looking_for_ascii_first_changes_no_text(spark: "SparkSession") -> None:
    texts = [
        *hostile_texts(["love", "don\u2019t", "na\u00efve"], seed=5, count=300),
        None,
        "",
        "\u201cA\u201d&amp;lt;\u2026",
    ]
    frame = spark.createDataFrame([(one,) for one in texts], "text STRING")
    plain, quick = (
        frame.selectExpr(*text.lowered(ascii_first=first)).select(text.LOWER).collect()
        for first in (False, True)
    )
    assert plain == quick
    assert plain[-1][0] == '"a"<...'


def test_a_vocabulary_over_its_limit_keeps_the_most_frequent_terms(labelled: "DataFrame") -> None:
    rows = text.clean_tokens().transform(labelled)
    vocabulary = learn_vocabulary(rows, terms=text.TOKENS, label="label", min_documents=1, limit=3)
    assert vocabulary.documents.tolist() == [300.0, 300.0, 300.0]
    assert list(vocabulary.terms) == sorted(vocabulary.terms)


def test_fitting_twice_gives_the_same_vocabulary(labelled: "DataFrame") -> None:
    variant = VARIANTS["nb_ngrams"]
    first, second = (
        [s.vocabulary for s in fit_features(variant, frame).model.stages if hasattr(s, "vocabulary")]
        for frame in (labelled, labelled.orderBy("text"))
    )
    assert first == second


def test_too_few_rows_are_named(labelled: "DataFrame") -> None:
    with pytest.raises(TrainingError, match="Only 50 training rows"):
        fit_features(VARIANTS["hashing"], labelled.limit(50))


def test_a_single_label_is_named(labelled: "DataFrame") -> None:
    with pytest.raises(TrainingError, match="are negative"):
        fit_features(VARIANTS["hashing"], labelled.selectExpr("text", "0D AS label"))


def test_other_labels_are_counted(labelled: "DataFrame") -> None:
    with pytest.raises(TrainingError, match="150 of 300"):
        fit_features(VARIANTS["hashing"], labelled.selectExpr("text", "label * 4 AS label"))


@pytest.mark.parametrize("name", ["hashing", "count", "nb_ngrams"])
def test_texts_without_any_term_are_an_error_not_a_model(labelled: "DataFrame", name: str) -> None:
    empty = labelled.selectExpr("CAST(NULL AS STRING) AS text", "label")
    with pytest.raises(TrainingError, match="300"):
        fit_features(VARIANTS[name], empty)
