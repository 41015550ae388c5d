"""Algorithms and candidates: from cached vectors to one PipelineModel that reads raw text.

Belongs here: the five classifiers with their settings, the table of candidates, the fit of one candidate.
Does not belong here: features (``features``), figures (``evaluation``), which candidate wins (``models``).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field
from pyspark import StorageLevel
from pyspark.errors import IllegalArgumentException
from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.classification import (
    DecisionTreeClassifier,
    LinearSVC,
    LogisticRegression,
    NaiveBayes,
    RandomForestClassifier,
)
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sentiment_assets.failures import TrainingError, first_line
from sentiment_assets.spark.compiled.vectors import vectors as make_vectors
from sentiment_assets.spark.features import (
    FittedFeatures,
    Profile,
    Variant,
    check_training_rows,
    fit_features,
)
from sentiment_assets.spark.params import Params
from sentiment_assets.spark.text import FEATURES, LABEL

RAW_PREDICTION = "ml_raw"
PROBABILITY = "ml_probability"
PREDICTION = "ml_prediction"
MARGIN = "ml_margin"

# Sparse rows in blocks of 4 MB: 23 instead of 30 s for 1.6 M rows (measured).
_BLOCK_MB = 4.0


class LogisticRegressionParams(Params):
    """Settings of logistic regression, fitted by L-BFGS."""

    penalty: float = Field(
        default=1.0,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="L2 penalty on the summed loss; MLlib's regParam is this divided by the training rows.",
    )
    max_iterations: int = Field(
        default=40,
        ge=1,
        le=10_000,
        # On 124,150 rows: accuracy .8186 after 20, .8210 after 40, 60 and 100.
        description="Most L-BFGS iterations.",
    )
    tolerance: float = Field(
        default=1e-4, gt=0, le=1, allow_inf_nan=False, description="Relative change at which L-BFGS stops."
    )
    standardize: bool = Field(
        default=False, description="Penalise coefficients of features scaled to variance 1."
    )


class LinearSvmParams(Params):
    """Settings of the linear support vector machine and its calibration."""

    penalty: float = Field(
        default=3.0,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="L2 penalty on the summed loss; MLlib's regParam is this divided by the training rows.",
    )
    max_iterations: int = Field(default=30, ge=1, le=10_000, description="Most OWL-QN iterations.")
    tolerance: float = Field(
        default=1e-6, gt=0, le=1, allow_inf_nan=False, description="Relative change at which OWL-QN stops."
    )
    standardize: bool = Field(
        default=False, description="Penalise coefficients of features scaled to variance 1."
    )
    calibration_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Share of the training rows kept back to turn margins into probabilities.",
    )


class NaiveBayesParams(Params):
    """Settings of multinomial naive Bayes."""

    smoothing: float = Field(
        default=1.0,
        ge=0,
        le=1e3,
        allow_inf_nan=False,
        description="Added to each sum of a feature in a class.",
    )


class DecisionTreeParams(Params):
    """Settings of one decision tree."""

    max_depth: int = Field(default=10, ge=1, le=30, description="Levels below the root.")
    min_instances: int = Field(default=5, ge=1, description="Least training rows of a leaf.")


class RandomForestParams(DecisionTreeParams):
    """Settings of the random forest."""

    trees: int = Field(default=30, ge=1, le=1000, description="Number of trees.")


@dataclass(frozen=True)
class Algorithm:
    """One classifier.

    Attributes
    ----------
    name, title
        Name in asset keys, and for people.
    code_version
        Raised whenever the same vectors would give another model.
    defaults
        Parameters with their defaults; its class describes each.
    fit
        ``(vectors, rows, parameters, seed) -> fitted stages`` from ``ml_features`` to ``ml_probability``.
    """

    name: str
    title: str
    code_version: str
    defaults: Params
    fit: Callable[[DataFrame, int, Any, int], list[Transformer]]

    def params(self, values: Mapping[str, object] | None = None) -> Params:
        """Parameters with ``values`` in place of the defaults.

        Raises
        ------
        TrainingError
            When a value is unknown, out of range or not a number.
        """
        return type(self.defaults).of(values or {})


@dataclass(frozen=True)
class Candidate:
    """A feature variant with an algorithm, and the parameters that differ from the algorithm's defaults."""

    variant: str
    algorithm: str
    profile: Profile
    overrides: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``<variant>_<algorithm>``."""
        return f"{self.variant}_{self.algorithm}"

    def params(self) -> Params:
        """The algorithm's parameters for this candidate."""
        return ALGORITHMS[self.algorithm].params(self.overrides)


def storage_level(rows: int, mean_nonzero: float, heap_bytes: int) -> StorageLevel:
    """Where the vectors of one variant are kept while several algorithms read them.

    A non-zero entry takes 12 bytes. The linear classifiers cache a copy in blocks of their own, so vectors of more
    than a quarter of the heap go to disk alone: read once per fit, they cost less there than what they would evict.
    """
    return (
        StorageLevel.MEMORY_AND_DISK if rows * mean_nonzero * 12 < heap_bytes / 4 else StorageLevel.DISK_ONLY
    )


@contextmanager
def cached_vectors(features: FittedFeatures, train: DataFrame) -> Iterator[DataFrame]:
    """Columns ``label`` and ``ml_features`` of ``train``, computed once and dropped at the end.

    Tokens are not kept: they take several times the room of the vectors and nothing reads them again.

    Parameters
    ----------
    features
        What :func:`~sentiment_assets.spark.features.fit_features` returned.
    train
        Columns ``text STRING, label DOUBLE``.
    """
    heap = _heap_bytes(train)
    vectors = make_vectors(features.model, train).persist(
        storage_level(features.rows, features.mean_nonzero, heap)
    )
    try:
        yield vectors
    finally:
        vectors.unpersist(blocking=True)


def _heap_bytes(frame: DataFrame) -> int:
    jvm = frame.sparkSession.sparkContext._jvm
    assert jvm is not None  # noqa: S101  a session that runs has its gateway
    return int(jvm.java.lang.Runtime.getRuntime().maxMemory())


def fit_candidate(
    features: PipelineModel,
    vectors: DataFrame,
    algorithm: Algorithm,
    params: Params | None = None,
    *,
    seed: int,
) -> PipelineModel:
    """Fit ``algorithm`` on ``vectors`` and put it behind ``features``: one model from ``text`` to probability.

    Parameters
    ----------
    features
        Fitted features, from ``text`` to ``ml_features``.
    vectors
        Columns ``label DOUBLE`` and ``ml_features``, made by ``features`` (see :func:`cached_vectors`).
    params
        Of the class of ``algorithm.defaults``; its defaults when left out.
    seed
        Of everything random: bootstrap, feature subsets, the calibration slice.

    Raises
    ------
    TrainingError
        Too few rows, a single label, or a fit that does not give a finite model.
    """
    rows = check_training_rows(vectors)
    try:
        fitted = algorithm.fit(vectors, rows, params or algorithm.defaults, seed)
    except IllegalArgumentException as error:
        raise TrainingError(
            f"{algorithm.title} cannot be fitted on {rows:,} rows ({first_line(error)}).",
            "Check the parameters of the candidate, or train on more rows.",
        ) from error
    _check_finite(algorithm, fitted)
    return PipelineModel(stages=[*features.stages, *fitted])


@dataclass(frozen=True)
class Fitted:
    """A configuration fitted from raw rows.

    Attributes
    ----------
    model
        From ``text`` to ``ml_probability``.
    rows
        Training rows.
    features_seconds, fit_seconds
        Wall time of the features and of the algorithm, computing the vectors included.
    """

    model: PipelineModel
    rows: int
    features_seconds: float
    fit_seconds: float


def fit_configurations(
    variant: Variant,
    variant_params: Params | None,
    algorithms: Sequence[tuple[Algorithm, Params]],
    train: DataFrame,
    *,
    seed: int,
) -> Iterator[Fitted]:
    """Fit the features once and each algorithm on their vectors, one after another.

    Parameters
    ----------
    variant, variant_params
        Features and their parameters; None for the defaults.
    algorithms
        Algorithms with their parameters.
    train
        Columns ``text STRING, label DOUBLE``; cache it.

    Raises
    ------
    TrainingError
        As :func:`fit_candidate`.
    """
    features = fit_features(variant, train, variant_params)
    with cached_vectors(features, train) as vectors:
        for algorithm, params in algorithms:
            begun = time.monotonic()
            model = fit_candidate(features.model, vectors, algorithm, params, seed=seed)
            yield Fitted(model, features.rows, features.seconds, time.monotonic() - begun)


def _check_finite(algorithm: Algorithm, fitted: list[Transformer]) -> None:
    """Refuse a linear model whose intercept is not a number: its optimiser has diverged."""
    for stage in fitted:
        intercept = getattr(stage, "intercept", 0.0)
        if not math.isfinite(intercept):
            raise TrainingError(
                f"{algorithm.title} diverged (intercept {intercept}).",
                "Raise the penalty, or lower the number of iterations.",
            )


def _logistic_regression(
    vectors: DataFrame, rows: int, params: LogisticRegressionParams, seed: int
) -> list[Transformer]:
    del seed
    estimator = LogisticRegression(
        featuresCol=FEATURES,
        labelCol=LABEL,
        rawPredictionCol=RAW_PREDICTION,
        probabilityCol=PROBABILITY,
        predictionCol=PREDICTION,
        regParam=params.penalty / rows,
        maxIter=params.max_iterations,
        tol=params.tolerance,
        standardization=params.standardize,
        family="binomial",
        maxBlockSizeInMB=_BLOCK_MB,
    )
    return [estimator.fit(vectors)]


def _linear_svm(vectors: DataFrame, rows: int, params: LinearSvmParams, seed: int) -> list[Transformer]:
    """Hinge loss, then Platt's sigmoid: a logistic regression on the margins of rows the machine has not seen."""
    marked = vectors.withColumn("calibrates", F.rand(seed) < params.calibration_share)
    machine = LinearSVC(
        featuresCol=FEATURES,
        labelCol=LABEL,
        rawPredictionCol=MARGIN,
        predictionCol="ml_side",
        regParam=params.penalty / rows,
        maxIter=params.max_iterations,
        tol=params.tolerance,
        standardization=params.standardize,
        maxBlockSizeInMB=_BLOCK_MB,
    ).fit(marked.where(~F.col("calibrates")))
    sigmoid = LogisticRegression(
        featuresCol=MARGIN,
        labelCol=LABEL,
        rawPredictionCol=RAW_PREDICTION,
        probabilityCol=PROBABILITY,
        predictionCol=PREDICTION,
        regParam=1
        / rows,  # the two margins mirror each other, so their coefficients need a penalty to be unique
        family="binomial",
    ).fit(machine.transform(marked.where("calibrates")).select(LABEL, MARGIN))
    return [machine, sigmoid]


def _naive_bayes(vectors: DataFrame, rows: int, params: NaiveBayesParams, seed: int) -> list[Transformer]:
    del rows, seed
    estimator = NaiveBayes(
        featuresCol=FEATURES,
        labelCol=LABEL,
        rawPredictionCol=RAW_PREDICTION,
        probabilityCol=PROBABILITY,
        predictionCol=PREDICTION,
        smoothing=params.smoothing,
        modelType="multinomial",
    )
    return [estimator.fit(vectors)]


def _decision_tree(vectors: DataFrame, rows: int, params: DecisionTreeParams, seed: int) -> list[Transformer]:
    del rows
    estimator = DecisionTreeClassifier(
        featuresCol=FEATURES,
        labelCol=LABEL,
        rawPredictionCol=RAW_PREDICTION,
        probabilityCol=PROBABILITY,
        predictionCol=PREDICTION,
        maxDepth=params.max_depth,
        minInstancesPerNode=params.min_instances,
        maxMemoryInMB=512,
        seed=seed,
    )
    return [estimator.fit(vectors)]


def _random_forest(vectors: DataFrame, rows: int, params: RandomForestParams, seed: int) -> list[Transformer]:
    del rows
    estimator = RandomForestClassifier(
        featuresCol=FEATURES,
        labelCol=LABEL,
        rawPredictionCol=RAW_PREDICTION,
        probabilityCol=PROBABILITY,
        predictionCol=PREDICTION,
        numTrees=params.trees,
        maxDepth=params.max_depth,
        minInstancesPerNode=params.min_instances,
        maxMemoryInMB=512,
        seed=seed,
    )
    return [estimator.fit(vectors)]


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(
            "logistic_regression",
            "Logistic regression",
            "2",
            LogisticRegressionParams(),
            _logistic_regression,
        ),
        Algorithm("linear_svm", "Linear SVM", "1", LinearSvmParams(), _linear_svm),
        Algorithm("naive_bayes", "Naive Bayes", "1", NaiveBayesParams(), _naive_bayes),
        Algorithm("random_forest", "Random forest", "1", RandomForestParams(), _random_forest),
        Algorithm("decision_tree", "Decision tree", "1", DecisionTreeParams(), _decision_tree),
    )
}
"""Every algorithm by name."""

# MLlib's own defaults, which the published figures were made with: no penalty, standardised.
_PUBLISHED: Mapping[str, object] = {
    "penalty": 0.0,
    "standardize": True,
    "max_iterations": 100,
    "tolerance": 1e-6,
}

CANDIDATES: dict[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Candidate("nb_ngrams", "logistic_regression", "quick"),
        Candidate("nb_ngrams", "naive_bayes", "quick"),
        Candidate("nb_ngrams", "linear_svm", "full"),
        Candidate("hashing", "logistic_regression", "full", _PUBLISHED),
        Candidate("hashing", "naive_bayes", "quick"),
        Candidate("hashing", "linear_svm", "full", _PUBLISHED),
        Candidate("count", "logistic_regression", "quick", _PUBLISHED),
        Candidate("count", "naive_bayes", "quick"),
        Candidate("count", "linear_svm", "full", _PUBLISHED),
        Candidate("hashing_default", "logistic_regression", "full", _PUBLISHED),
        Candidate("hashing_default", "naive_bayes", "full"),
        Candidate("hashing_default", "linear_svm", "full", _PUBLISHED),
        Candidate("count_default", "logistic_regression", "full", _PUBLISHED),
        Candidate("count_default", "naive_bayes", "full"),
        Candidate("count_default", "linear_svm", "full", _PUBLISHED),
        Candidate("ngrams", "logistic_regression", "full", _PUBLISHED),
        Candidate("ngrams", "naive_bayes", "full"),
        Candidate("ngrams", "linear_svm", "full", _PUBLISHED),
        Candidate("ngrams_chi2", "logistic_regression", "full", _PUBLISHED),
        Candidate("ngrams_chi2", "naive_bayes", "full"),
        Candidate("ngrams_chi2", "linear_svm", "full", _PUBLISHED),
        Candidate("capped", "random_forest", "full"),
        Candidate("capped", "decision_tree", "full"),
    )
}
"""The table of candidates by name; trees only where the features are few."""
