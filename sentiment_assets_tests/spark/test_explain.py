"""Explanations add up to the score, exactly, for every model that is a sum."""

import math
from typing import TYPE_CHECKING

import pytest

from sentiment_assets.spark.explain import explain, telling_terms
from sentiment_assets.spark.features import VARIANTS, fit_features
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.training import ALGORITHMS, cached_vectors, fit_candidate

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame, SparkSession

TEXTS = ["I love the bus, thanks!", "ugh, my cat is sick", "", "zzzz"]
SMALL = {"hashing": {"buckets": 4096}, "ngrams_chi2": {"selected": 50}}
FEW_ITERATIONS = {"linear_svm": {"max_iterations": 5}}
MODELS = [
    ("nb_ngrams", "logistic_regression"),
    ("nb_ngrams", "naive_bayes"),
    ("count", "linear_svm"),
    ("ngrams_chi2", "logistic_regression"),
    ("hashing", "naive_bayes"),
]


def fitted(labelled: "DataFrame", variant: str, algorithm: str) -> "PipelineModel":
    chosen = VARIANTS[variant]
    features = fit_features(chosen, labelled, chosen.params(SMALL.get(variant, {})))
    with cached_vectors(features, labelled) as vectors:
        chosen_algorithm = ALGORITHMS[algorithm]
        params = chosen_algorithm.params(FEW_ITERATIONS.get(algorithm, {}))
        return fit_candidate(features.model, vectors, chosen_algorithm, params, seed=1)


@pytest.mark.parametrize(("variant", "algorithm"), MODELS)
def test_intercept_terms_and_rest_add_up_to_the_log_odds(
    spark: "SparkSession", labelled: "DataFrame", variant: str, algorithm: str
) -> None:
    model = fitted(labelled, variant, algorithm)
    scored = score(model, spark.createDataFrame([(t,) for t in TEXTS], "text STRING")).collect()
    explanations = explain(model, TEXTS, top=2)
    assert [e.text for e in explanations] == TEXTS
    for explanation, row in zip(explanations, scored, strict=True):
        odds = explanation.intercept + sum(share for _, share in explanation.terms) + explanation.rest
        assert explanation.probability == pytest.approx(row["probability"])
        assert 1 / (1 + math.exp(-odds)) == pytest.approx(row["probability"], abs=1e-9)
        assert len(explanation.terms) <= 2
    good, bad = explanations[:2]
    assert (good.sentiment, bad.sentiment) == ("positive", "negative")
    assert any("love" in term or "thanks" in term for term, _ in good.terms)
    assert {e.sentiment for e in explain(model, TEXTS, band=0.5)} == {"neutral"}


def test_telling_terms_are_the_words_of_each_class(labelled: "DataFrame") -> None:
    telling = telling_terms(fitted(labelled, "nb_ngrams", "logistic_regression"), top=40)
    positive, negative = {t for t, _ in telling.positive}, {t for t, _ in telling.negative}
    assert "happy" in positive
    assert "awful" in negative
    assert "[\u00b7miss]" in negative
    assert all(weight > 0 for _, weight in telling.positive)
    assert telling.note is None


def test_what_cannot_be_named_is_said(labelled: "DataFrame") -> None:
    forest = fitted(labelled, "capped", "random_forest")
    assert explain(forest, TEXTS)[0].terms == ()
    assert "paths" in (explain(forest, TEXTS)[0].note or "")
    assert "paths" in (telling_terms(forest).note or "")
    assert "bucket" in (telling_terms(fitted(labelled, "hashing", "naive_bayes")).note or "")
