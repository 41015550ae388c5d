"""Figures about scored rows, each with its uncertainty.

Belongs here: one Spark pass over scored rows, and the exact figures that follow from labels and probabilities.
Does not belong here: scoring (``scoring``), ranking candidates (``models``).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sentiment_assets.failures import TrainingError
from sentiment_assets.spark.scoring import THRESHOLD

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SELECTION = "selection"
REPORT = "report"
Z95 = 1.959963984540054
"""Standard normal quantile of a 95 % interval."""


@dataclass(frozen=True)
class ScoreCounts:
    """How many positive and negative rows got each probability, probabilities rising.

    Everything that depends on scores and labels alone follows from it exactly: accuracy, AUC, calibration, curves.
    """

    probability: FloatArray
    positive: FloatArray
    negative: FloatArray

    @classmethod
    def of(cls, probability: FloatArray, positive: FloatArray, negative: FloatArray) -> Self:
        """Sort by probability; equal probabilities may come in several entries."""
        order = np.argsort(probability, kind="stable")
        distinct, starts = np.unique(probability[order], return_index=True)
        return cls(
            distinct,
            np.add.reduceat(positive[order], starts) if len(distinct) else positive,
            np.add.reduceat(negative[order], starts) if len(distinct) else negative,
        )


@dataclass(frozen=True)
class ScoredRows:
    """Test rows with the score that one model gave them, ordered by ``key``; entry i of each array is row i.

    Attributes
    ----------
    key
        Hash of the normalised text: two models that were scored on the same rows have the same keys.
    report
        Whether the row belongs to the half that is only reported; the others rank candidates.
    positive
        Whether the label is positive.
    probability
        P(positive).
    """

    key: npt.NDArray[np.int64]
    report: BoolArray
    positive: BoolArray
    probability: FloatArray

    @classmethod
    def of(
        cls,
        key: npt.NDArray[np.int64],
        report: BoolArray,
        positive: BoolArray,
        probability: FloatArray,
    ) -> Self:
        """Sort by key."""
        order = np.argsort(key, kind="stable")
        return cls(key[order], report[order], positive[order], probability[order])

    def half(self, name: str) -> Self:
        """The rows of one half: 'selection' or 'report'."""
        kept = self.report if name == REPORT else ~self.report
        return type(self)(self.key[kept], self.report[kept], self.positive[kept], self.probability[kept])

    def correct(self) -> BoolArray:
        """Whether the verdict at the threshold 0.5 is that of the label."""
        return np.asarray((self.probability > THRESHOLD) == self.positive)

    def counts(self) -> ScoreCounts:
        """The same scores by probability."""
        positive = self.positive.astype(np.float64)
        return ScoreCounts.of(self.probability, positive, 1 - positive)


@dataclass(frozen=True)
class Metrics:
    """Figures of one model on one set of rows.

    Attributes
    ----------
    n, accuracy, ci95_low, ci95_high
        Rows, share of correct rows at the threshold 0.5, Wilson's 95 % interval (Wilson 1927).
    macro_f1
        Mean of the F1 of both classes; an empty class counts 0.
    auc, auc_ci95_low, auc_ci95_high
        Area under the ROC curve as the exact rank statistic, ties one half, with DeLong's 95 % interval
        (DeLong, DeLong & Clarke-Pearson 1988). NaN when only one class is present.
    tn, fp, fn, tp
        Confusion matrix.
    log_loss, brier
        Mean negative log-likelihood in nats, mean squared error of the probability.
    """

    n: int
    accuracy: float
    ci95_low: float
    ci95_high: float
    macro_f1: float
    auc: float
    auc_ci95_low: float
    auc_ci95_high: float
    tn: int
    fp: int
    fn: int
    tp: int
    log_loss: float
    brier: float

    def as_dict(self) -> dict[str, int | float]:
        """Figure name -> value."""
        return asdict(self)


@dataclass(frozen=True)
class HalvesMetrics:
    """Figures over all test rows, over the half that ranks candidates, and over the half that is only reported."""

    test: Metrics
    selection: Metrics
    report: Metrics

    def as_dict(self) -> dict[str, int | float]:
        """All of the test figures, and ``selection_*`` and ``report_*`` with n, accuracy, interval, macro-F1, AUC."""
        flat = self.test.as_dict()
        for half, metrics in ((SELECTION, self.selection), (REPORT, self.report)):
            for name in ("n", "accuracy", "ci95_low", "ci95_high", "macro_f1", "auc"):
                flat[f"{half}_{name}"] = getattr(metrics, name)
        return flat


def evaluate(scored: DataFrame) -> Metrics:
    """Figures of ``scored`` in one Spark pass.

    Parameters
    ----------
    scored
        Columns ``label DOUBLE`` (0.0 or 1.0) and ``probability DOUBLE``.

    Raises
    ------
    TrainingError
        No rows, or a probability that is not a number.
    """
    return metrics_of(_counts(scored.withColumn("half", F.lit("")))[""])


def evaluate_halves(scored: DataFrame) -> HalvesMetrics:
    """Figures over all rows and over each half, in one Spark pass.

    Parameters
    ----------
    scored
        As for :func:`evaluate`, with ``half STRING``: 'selection' or 'report'.

    Raises
    ------
    TrainingError
        A half without rows, or a probability that is not a number.
    """
    return _halves(_counts(scored))


def _halves(counts: Mapping[str, ScoreCounts]) -> HalvesMetrics:
    for half in (SELECTION, REPORT):
        if half not in counts or not len(counts[half].probability):
            raise TrainingError(
                f"The test rows have no half '{half}'.",
                "Materialize test_tweets again; too few rows may be the cause.",
            )
    halves = [counts[SELECTION], counts[REPORT]]
    both = ScoreCounts.of(
        np.concatenate([half.probability for half in halves]),
        np.concatenate([half.positive for half in halves]),
        np.concatenate([half.negative for half in halves]),
    )
    return HalvesMetrics(metrics_of(both), metrics_of(halves[0]), metrics_of(halves[1]))


def collect_scores(scored: DataFrame) -> ScoredRows:
    """Bring the scores of the test rows to the driver, in one Spark pass.

    Parameters
    ----------
    scored
        Columns of ``test_tweets`` and ``probability DOUBLE``.

    Raises
    ------
    TrainingError
        No rows, or a probability that is not a number.
    """
    table = scored.select(F.xxhash64("text_key").alias("key"), "half", "probability", "label").toArrow()
    return ScoredRows.of(
        table["key"].to_numpy(),
        np.asarray(table["half"].to_pylist(), dtype=object) == REPORT,
        table["label"].to_numpy() == 1.0,
        _checked(table["probability"].to_numpy()),
    )


def halves_of(rows: ScoredRows) -> HalvesMetrics:
    """Figures over all rows and over each half.

    Raises
    ------
    TrainingError
        When a half has no rows.
    """
    return _halves({name: rows.half(name).counts() for name in (SELECTION, REPORT)})


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    share = correct / n
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    # Where every row is right or wrong, rounding can carry a bound past the end or past the share itself.
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return min(share, max(0.0, low)), max(share, min(1.0, high))


def auc_with_interval(counts: ScoreCounts) -> tuple[float, float, float]:
    """Area under the ROC curve and DeLong's 95 % interval (DeLong, DeLong & Clarke-Pearson 1988)."""
    positives, negatives = counts.positive.sum(), counts.negative.sum()
    if not positives or not negatives:
        return math.nan, math.nan, math.nan
    # For one positive row: the share of negative rows it outranks; for a negative row: of positives that outrank it.
    above_negatives = (np.cumsum(counts.negative) - counts.negative / 2) / negatives
    below_positives = 1 - (np.cumsum(counts.positive) - counts.positive / 2) / positives
    auc = float((counts.positive * above_negatives).sum() / positives)
    variance = _variance(above_negatives, counts.positive) + _variance(below_positives, counts.negative)
    spread = Z95 * math.sqrt(variance)
    return auc, max(0.0, auc - spread), min(1.0, auc + spread)


def _variance(values: FloatArray, weights: FloatArray) -> float:
    """Variance of the mean of ``values``, each occurring ``weights`` times."""
    n = float(weights.sum())
    if n < 2:
        return 0.0
    mean = float((values * weights).sum() / n)
    return float((weights * (values - mean) ** 2).sum() / (n - 1) / n)


def metrics_of(counts: ScoreCounts) -> Metrics:
    """All figures from the counts.

    Raises
    ------
    TrainingError
        When there are no rows.
    """
    n = int(counts.positive.sum() + counts.negative.sum())
    if n == 0:
        raise TrainingError("There are no labelled rows to evaluate.", "Name a file with labelled rows.")
    said_positive = counts.probability > THRESHOLD
    tp, fp = int(counts.positive[said_positive].sum()), int(counts.negative[said_positive].sum())
    fn, tn = int(counts.positive.sum()) - tp, int(counts.negative.sum()) - fp
    f1 = [2 * hit / (2 * hit + fp + fn) if hit else 0.0 for hit in (tp, tn)]
    low, high = wilson(tp + tn, n)
    auc, auc_low, auc_high = auc_with_interval(counts)
    p = np.clip(counts.probability, 1e-15, 1 - 1e-15)
    loss = counts.positive * np.log(p) + counts.negative * np.log1p(-p)
    squared = counts.positive * (1 - counts.probability) ** 2 + counts.negative * counts.probability**2
    return Metrics(
        n=n,
        accuracy=(tp + tn) / n,
        ci95_low=low,
        ci95_high=high,
        macro_f1=sum(f1) / 2,
        auc=auc,
        auc_ci95_low=auc_low,
        auc_ci95_high=auc_high,
        tn=tn,
        fp=fp,
        fn=fn,
        tp=tp,
        log_loss=float(-loss.sum() / n),
        brier=float(squared.sum() / n),
    )


def _counts(scored: DataFrame) -> dict[str, ScoreCounts]:
    """Counts by half.

    The three columns travel to the driver as they are, 24 bytes a row (8 MB for the 320,000 test rows of the whole
    corpus). Grouping by probability in Spark would be less to send, but Spark then normalises the key (NaN, -0.0)
    and evaluates the model several times for each row: 22 s instead of 6 s for 11,492 rows (measured).
    """
    table = scored.select("half", "probability", "label").toArrow()
    probability = _checked(table["probability"].to_numpy())
    half = np.asarray(table["half"].to_pylist(), dtype=object)
    positive = (table["label"].to_numpy() == 1.0).astype(np.float64)
    return {
        str(name): ScoreCounts.of(
            probability[half == name], positive[half == name], 1 - positive[half == name]
        )
        for name in sorted(set(half))
    }


def _checked(probability: FloatArray) -> FloatArray:
    """The probabilities, none of them NaN and at least one."""
    if not len(probability):
        raise TrainingError("There are no labelled rows to evaluate.", "Name a file with labelled rows.")
    found = probability.astype(np.float64)
    if np.isnan(found).any():
        raise TrainingError(
            "The model gives a probability that is not a number.",
            "Train it again with a larger penalty; the optimiser has diverged.",
        )
    return found
