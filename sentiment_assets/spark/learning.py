"""The learning curve: one configuration fitted on growing parts of the training rows.

Belongs here: the parts and their figures. Does not belong here: which configuration (``defs.learning``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sentiment_assets.spark.evaluation import Metrics, evaluate
from sentiment_assets.spark.features import Variant
from sentiment_assets.spark.params import Params
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.training import Algorithm, fit_configurations

FRACTIONS = (0.1, 0.25, 0.5, 1.0)
_BUCKETS = 1_000_000


@dataclass(frozen=True)
class LearnedPart:
    """A configuration fitted on ``rows`` training rows: figures on the test rows, seconds to fit features and model."""

    rows: int
    metrics: Metrics
    seconds: float


def part_of(rows: DataFrame, fraction: float, *, seed: int, purpose: str) -> DataFrame:
    """A seeded part of ``rows``; a smaller part lies within a larger one, and equal texts stay together.

    Parameters
    ----------
    rows
        Column ``text_key``.
    fraction
        Share of the texts, in steps of a millionth.
    purpose
        Parts for different purposes are drawn independently.
    """
    draw = F.pmod(F.xxhash64(F.lit(seed), F.lit(purpose), "text_key"), F.lit(_BUCKETS))
    return rows if fraction >= 1 else rows.where(draw < round(fraction * _BUCKETS))


def learn_parts(
    features: tuple[Variant, Params],
    algorithm: tuple[Algorithm, Params],
    train: DataFrame,
    test: DataFrame,
    *,
    fractions: Sequence[float] = FRACTIONS,
    seed: int,
) -> Iterator[LearnedPart]:
    """Fit on each part of the training rows and measure on all of ``test``.

    Parameters
    ----------
    features, algorithm
        The configuration.
    train
        Columns ``text STRING, label DOUBLE, text_key STRING``.
    test
        Columns ``text STRING, label DOUBLE``.

    Raises
    ------
    TrainingError
        When a part is too small to be learned from.
    """
    for fraction in fractions:
        part = part_of(train, fraction, seed=seed, purpose="learning").persist(StorageLevel.DISK_ONLY)
        try:
            for fitted in fit_configurations(*features, [algorithm], part, seed=seed):
                metrics = evaluate(score(fitted.model, test))
                yield LearnedPart(fitted.rows, metrics, fitted.features_seconds + fitted.fit_seconds)
        finally:
            part.unpersist()
