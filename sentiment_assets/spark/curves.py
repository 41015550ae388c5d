"""Curves that show a model's scores as a whole: ROC, precision and recall, reliability.

Belongs here: the points, exact or thinned for a drawing. Does not belong here: drawing them (``reports.plots``).
"""

from dataclasses import dataclass

import numpy as np

from sentiment_assets.spark.evaluation import FloatArray, ScoreCounts, wilson

MOST_POINTS = 400
"""Points of a drawn curve; more cannot be told apart on a screen."""


@dataclass(frozen=True)
class Curve:
    """Points of a curve; x does not fall."""

    x: FloatArray
    y: FloatArray


@dataclass(frozen=True)
class Bin:
    """Rows whose P(positive) lies in one interval.

    Attributes
    ----------
    low, high
        Bounds of the interval.
    n
        Rows.
    predicted
        Mean P(positive).
    observed, ci95_low, ci95_high
        Share of positive rows with Wilson's 95 % interval.
    """

    low: float
    high: float
    n: int
    predicted: float
    observed: float
    ci95_low: float
    ci95_high: float


def roc(counts: ScoreCounts) -> Curve:
    """False positive rate against true positive rate, over all thresholds."""
    positive = np.concatenate([[0.0], np.cumsum(counts.positive[::-1])])
    negative = np.concatenate([[0.0], np.cumsum(counts.negative[::-1])])
    return _thinned(negative / max(negative[-1], 1), positive / max(positive[-1], 1))


def precision_recall(counts: ScoreCounts) -> Curve:
    """Recall against precision of the class positive, over all thresholds that call at least one row positive."""
    positive, negative = np.cumsum(counts.positive[::-1]), np.cumsum(counts.negative[::-1])
    return _thinned(positive / max(positive[-1], 1), positive / (positive + negative))


def reliability(counts: ScoreCounts, bins: int = 10) -> list[Bin]:
    """Predicted against observed shares of positive rows, in intervals of equal width; empty ones are left out.

    Parameters
    ----------
    bins
        Number of intervals between 0 and 1.
    """
    place = np.minimum((counts.probability * bins).astype(int), bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        positive, negative = counts.positive[inside], counts.negative[inside]
        n = int(positive.sum() + negative.sum())
        if n:
            low, high = wilson(int(positive.sum()), n)
            predicted = float((counts.probability[inside] * (positive + negative)).sum() / n)
            found.append(
                Bin(index / bins, (index + 1) / bins, n, predicted, float(positive.sum() / n), low, high)
            )
    return found


def calibration_error(counts: ScoreCounts, bins: int = 10) -> float:
    """Expected calibration error: mean distance of predicted and observed shares (Naeini et al. 2015)."""
    found = reliability(counts, bins)
    return sum(b.n * abs(b.predicted - b.observed) for b in found) / sum(b.n for b in found)


def _thinned(x: FloatArray, y: FloatArray) -> Curve:
    """At most :data:`MOST_POINTS` points, evenly along the curve; the ends stay."""
    if len(x) <= MOST_POINTS:
        return Curve(x, y)
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    chosen = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MOST_POINTS)))
    return Curve(x[chosen], y[chosen])
