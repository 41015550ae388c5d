"""Scoring: the one function that training, evaluation, the command line and the stream share.

Belongs here: from a fitted model and a frame to P(positive), and from P(positive) to a sentiment.
Does not belong here: figures about scores (``evaluation``), where scores go (``streaming``).
"""

from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sentiment_assets.spark.compiled.model import CompiledModel
from sentiment_assets.spark.text import LOWER, lowered
from sentiment_assets.spark.training import PROBABILITY

Model = PipelineModel | CompiledModel
"""What scores: a fitted MLlib pipeline, or the tables compiled from one."""

THRESHOLD = 0.5
"""A tweet is positive when P(positive) is above it, as MLlib predicts."""


def score(model: Model, frame: DataFrame) -> DataFrame:
    """Add ``probability`` to ``frame``.

    Parameters
    ----------
    model
        From ``text`` to ``ml_probability``, as :func:`~sentiment_assets.spark.training.fit_candidate` returns it, or
        the same compiled: about twenty times as fast.
    frame
        Column ``text STRING``, null allowed; batch or streaming. A column ``probability`` of its own is replaced.

    Returns
    -------
    DataFrame
        The columns of ``frame`` and ``probability DOUBLE``, P(positive) in [0, 1]. Lazy: no action is run.
    """
    kept = [f"`{name}`" for name in frame.columns if name != "probability"]
    if isinstance(model, CompiledModel):
        positive = model.probability(F.col(LOWER)).alias("probability")
        return frame.selectExpr(*kept, *lowered(ascii_first=True)).select(*kept, positive)
    positive = vector_to_array(F.col(PROBABILITY)).getItem(1).alias("probability")
    return model.transform(frame.select(*kept)).select(*kept, positive)


def sentiment_expr(probability: Column, band: float = 0.0) -> Column:
    """'positive' or 'negative' from P(positive); 'neutral' where |P(positive) - 0.5| is under ``band``."""
    verdict = F.when(probability > THRESHOLD, F.lit("positive")).otherwise(F.lit("negative"))
    near = F.abs(probability - F.lit(THRESHOLD)) < F.lit(band)
    return F.when(near, F.lit("neutral")).otherwise(verdict) if band else verdict
