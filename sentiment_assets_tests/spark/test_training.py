"""Each algorithm from cached vectors to a saved model that reads raw text."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.ml import PipelineModel

from sentiment_assets.failures import TrainingError
from sentiment_assets.spark.evaluation import evaluate
from sentiment_assets.spark.features import VARIANTS, FittedFeatures, fit_features
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.training import ALGORITHMS, cached_vectors, fit_candidate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FEW_ITERATIONS = {"linear_svm": {"max_iterations": 5}, "logistic_regression": {"max_iterations": 20}}


@pytest.fixture(scope="module")
def features(labelled: "DataFrame") -> FittedFeatures:
    return fit_features(VARIANTS["capped"], labelled)


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_each_algorithm_learns_is_reproducible_and_survives_saving(
    spark: "SparkSession", labelled: "DataFrame", features: FittedFeatures, tmp_path: Path, name: str
) -> None:
    algorithm = ALGORITHMS[name]
    params = algorithm.params(FEW_ITERATIONS.get(name, {}))
    with cached_vectors(features, labelled) as vectors:
        model = fit_candidate(features.model, vectors, algorithm, params, seed=1)
        again = fit_candidate(features.model, vectors, algorithm, params, seed=1)
    metrics = evaluate(score(model, labelled))
    assert metrics.accuracy > 0.8
    assert metrics.auc > 0.85
    assert evaluate(score(again, labelled)) == metrics

    model.write().save(str(tmp_path / "model"))
    assert evaluate(score(PipelineModel.load(str(tmp_path / "model")), labelled)) == metrics


def test_vectors_are_dropped_from_the_cache_when_an_algorithm_fails(
    labelled: "DataFrame", features: FittedFeatures
) -> None:
    kept: list[DataFrame] = []
    with contextlib.suppress(ZeroDivisionError), cached_vectors(features, labelled) as vectors:
        kept.append(vectors)
        assert vectors.is_cached
        1 / 0  # noqa: B018
    assert not kept[0].is_cached


def test_constant_labels_are_refused(labelled: "DataFrame", features: FittedFeatures) -> None:
    positive = features.model.transform(labelled.where("label = 1"))
    with pytest.raises(TrainingError, match="are positive"):
        fit_candidate(features.model, positive, ALGORITHMS["naive_bayes"], seed=1)
