"""Which terms decided: the exact parts of a linear model's log-odds, in the words of the text.

Belongs here: walking a fitted PipelineModel back from coefficients to terms. It reads the stages alone, so it
explains any stored version of a model. Does not belong here: how an explanation is shown (``cli``).

A linear model's log-odds are an intercept plus coefficient x value for each feature; those products are the
contributions, and nothing is estimated. Trees have no such sum: their explanations say so and name nothing.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark.ml import PipelineModel
from pyspark.ml.feature import (
    CountVectorizerModel,
    HashingTF,
    UnivariateFeatureSelectorModel,
    VectorAssembler,
)
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from sentiment_assets.failures import ModelError
from sentiment_assets.spark.linear import Linear, linear_part
from sentiment_assets.spark.scoring import sentiment_expr
from sentiment_assets.spark.text import FEATURES, PIECES
from sentiment_assets.spark.training import PROBABILITY
from sentiment_assets.spark.vocabulary import vocabulary_of

FloatArray = npt.NDArray[np.float64]

SPACE = "\u00b7"
"""Stands for a space in the name of a character n-gram, which is put in brackets: ``[\u00b7love]``."""
NOT_LINEAR = "Trees decide by paths, not by a sum over terms: no term can be given a share of the decision."
HASHED = "Hashed features have no names: a bucket is named by the terms of the text itself that fall into it."


@dataclass(frozen=True)
class Explanation:
    """Why one text got its score.

    Attributes
    ----------
    probability, sentiment
        P(positive), and what ``scoring.sentiment_expr`` calls it.
    terms
        (term, contribution to the log-odds of positive), largest absolute contribution first.
    rest
        What all other terms of the text add together.
    intercept
        Log-odds of a text without any known term. The probability is the sigmoid of intercept, terms and rest.
    note
        What could not be named, or None.
    """

    text: str
    probability: float
    sentiment: str
    terms: tuple[tuple[str, float], ...]
    rest: float
    intercept: float
    note: str | None = None


@dataclass(frozen=True)
class TellingTerms:
    """Terms with the largest weights towards each class, strongest first; empty with a note where none can be named."""

    positive: tuple[tuple[str, float], ...]
    negative: tuple[tuple[str, float], ...]
    note: str | None = None


def explain(model: PipelineModel, texts: Iterable[str], top: int = 6, band: float = 0.0) -> list[Explanation]:
    """Score ``texts`` and name the terms that decided.

    Parameters
    ----------
    model
        From ``text`` to ``ml_probability``, of any version.
    texts
        Raw texts.
    top
        Most terms named for each text.
    band
        Half the width of the neutral band; 0: none.
    """
    spark = SparkSession.active()
    frame = spark.createDataFrame(list(enumerate(texts)), "position INT, text STRING")
    positive = vector_to_array(F.col(PROBABILITY))[1]
    scored = model.transform(frame)
    inputs = [stage.getInputCol() for stage in _term_stages(model)]
    rows = (
        scored.select(
            "position",
            "text",
            FEATURES,
            positive.alias("probability"),
            sentiment_expr(positive, band).alias("sentiment"),
            *inputs,
        )
        .orderBy("position")
        .collect()
    )
    linear = linear_part(model)
    name = _namer(model)
    return [_explain_row(row, linear, name, top) for row in rows]


def telling_terms(model: PipelineModel, top: int = 20) -> TellingTerms:
    """Terms whose one occurrence moves the log-odds most.

    Parameters
    ----------
    model
        From ``text`` to ``ml_probability``, of any version.
    top
        Most terms per class.
    """
    linear = linear_part(model)
    if linear is None:
        return TellingTerms((), (), NOT_LINEAR)
    names = _names(model)
    if names is None:
        return TellingTerms((), (), HASHED)
    order = np.argsort(linear.weights, kind="stable")
    negative = [(names[i], float(linear.weights[i])) for i in order[:top] if linear.weights[i] < 0]
    positive = [(names[i], float(linear.weights[i])) for i in order[::-1][:top] if linear.weights[i] > 0]
    return TellingTerms(tuple(positive), tuple(negative))


def _explain_row(row: Row, linear: Linear | None, name: Callable[[Row, int], str], top: int) -> Explanation:
    probability, sentiment = float(row["probability"]), str(row["sentiment"])
    if linear is None:
        return Explanation(row["text"], probability, sentiment, (), 0.0, 0.0, NOT_LINEAR)
    vector = row[FEATURES]
    indices, values = np.asarray(vector.indices), np.asarray(vector.values)
    shares = linear.weights[indices] * values
    order = np.argsort(-np.abs(shares), kind="stable")
    named = tuple((name(row, int(indices[i])), float(shares[i])) for i in order[:top] if shares[i])
    return Explanation(
        text=row["text"],
        probability=probability,
        sentiment=sentiment,
        terms=named,
        rest=math.fsum(shares[order[top:]]),
        intercept=linear.intercept,
    )


def _term_stages(model: PipelineModel) -> list[Any]:
    """Stages that turn terms into features, in the order of the features."""
    return [stage for stage in model.stages if isinstance(stage, CountVectorizerModel | HashingTF)]


def _names(model: PipelineModel, column: str = FEATURES) -> list[str] | None:
    """Name of each entry of the vector ``column``, traced back to a vocabulary; None when terms are hashed."""
    stage = _producer(model, column)
    if isinstance(stage, CountVectorizerModel):
        if stage.getInputCol() == PIECES:
            return [f"[{piece.replace(' ', SPACE)}]" for piece in vocabulary_of(stage)]
        return vocabulary_of(stage)
    if isinstance(stage, HashingTF):
        return None
    if isinstance(stage, VectorAssembler):
        parts = [_names(model, part) for part in stage.getInputCols()]
        return None if None in parts else [name for part in parts for name in part or ()]
    if isinstance(stage, UnivariateFeatureSelectorModel):
        names = _names(model, stage.getFeaturesCol())
        return None if names is None else [names[index] for index in stage.selectedFeatures]
    return _names(model, stage.getInputCol())


def _producer(model: PipelineModel, column: str) -> Any:
    """The stage that writes ``column``."""
    stages: list[Any] = model.stages
    for stage in stages:
        if stage.hasParam("outputCol") and stage.getOutputCol() == column:
            return stage
    raise ModelError(
        f"No stage of the model writes the column {column}.", "Train the model again with this version."
    )


def _namer(model: PipelineModel) -> Callable[[Row, int], str]:
    """Function from a row and a feature index to the name of the term behind it."""
    names = _names(model)
    if names is not None:
        return lambda _row, index: names[index]
    (hashing,) = _term_stages(model)

    def name(row: Row, index: int) -> str:
        terms = {term for term in row[hashing.getInputCol()] if hashing.indexOf(term) == index}
        return " / ".join(sorted(terms))

    return name
