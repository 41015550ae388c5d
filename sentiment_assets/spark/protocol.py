"""The candidates measured by other protocols than our own split.

Belongs here: the splits by name, and fitting and measuring candidates on one of them.
Does not belong here: our own split and its halves (``cleaning``), keeping the figures (``reports.studies``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession

from sentiment_assets.spark.cleaning import deduplicate, split, split_by_author
from sentiment_assets.spark.evaluation import Metrics, evaluate
from sentiment_assets.spark.features import VARIANTS
from sentiment_assets.spark.raw import read_as_published, read_raw
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.training import ALGORITHMS, Candidate, Fitted, fit_configurations


@dataclass(frozen=True)
class Measured:
    """One candidate under one protocol.

    Attributes
    ----------
    test
        Figures on the test rows of the split.
    manual
        Figures on the file labelled by hand; None without one.
    """

    candidate: Candidate
    fitted: Fitted
    test: Metrics
    manual: Metrics | None


def split_rows(
    spark: SparkSession, path: Path, how: str, *, encoding: str, seed: int
) -> tuple[DataFrame, DataFrame]:
    """Train and test rows of a labelled file.

    Parameters
    ----------
    path
        An inspected file in Sentiment140's format.
    how
        ``published``: as the published code splits, duplicates kept, its own seed. ``text``: deduplicated, by text, as
        the assets do. ``author``: deduplicated, no author on both sides.
    seed
        Of the splits ``text`` and ``author``.

    Returns
    -------
    tuple
        Two frames with the columns ``text STRING, label DOUBLE``.
    """
    if how == "published":
        return read_as_published(spark, path)
    tweets = deduplicate(read_raw(spark, path, encoding=encoding).tweets).tweets
    parts = split(tweets, seed=seed) if how == "text" else split_by_author(tweets, seed=seed)
    return parts[0].select("text", "label"), parts[1].select("text", "label")


def measure(
    train: DataFrame,
    test: DataFrame,
    candidates: Sequence[Candidate],
    *,
    manual: DataFrame | None,
    seed: int,
) -> Iterator[Measured]:
    """Fit candidates on ``train`` and measure each on ``test``, variant by variant.

    Parameters
    ----------
    train, test, manual
        Columns ``text STRING, label DOUBLE``.

    Raises
    ------
    TrainingError
        When a candidate cannot be fitted.
    """
    order = list(VARIANTS)
    ordered = sorted(candidates, key=lambda candidate: order.index(candidate.variant))
    kept = [frame.persist(StorageLevel.DISK_ONLY) for frame in (train, test)]
    try:
        for variant, cells in groupby(ordered, key=lambda candidate: candidate.variant):
            group = list(cells)
            fits = fit_configurations(
                VARIANTS[variant],
                None,
                [(ALGORITHMS[c.algorithm], c.params()) for c in group],
                train,
                seed=seed,
            )
            for candidate, fitted in zip(group, fits, strict=True):
                on_manual = evaluate(score(fitted.model, manual)) if manual is not None else None
                yield Measured(candidate, fitted, evaluate(score(fitted.model, test)), on_manual)
    finally:
        for frame in kept:
            frame.unpersist()
