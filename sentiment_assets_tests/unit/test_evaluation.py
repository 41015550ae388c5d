"""Figures from counts, against definitions written out the slow way."""

import math

import numpy as np
import pytest

from sentiment_assets.failures import TrainingError
from sentiment_assets.spark.evaluation import ScoreCounts, auc_with_interval, metrics_of, wilson


def counts_of(scores: list[float], labels: list[int]) -> ScoreCounts:
    y = np.asarray(labels, dtype=float)
    return ScoreCounts.of(np.asarray(scores), y, 1 - y)


def random_rows(n: int) -> tuple[list[float], list[int]]:
    """Scores rounded so that many are tied, labels that agree with them more often than not."""
    rng = np.random.default_rng(3)
    scores = np.round(rng.random(n), 1)
    return list(scores), list((rng.random(n) < scores).astype(int))


def test_equal_probabilities_become_one_entry() -> None:
    counts = counts_of([0.7, 0.2, 0.7], [1, 0, 0])
    assert counts.probability.tolist() == [0.2, 0.7]
    assert counts.positive.tolist() == [0, 1]
    assert counts.negative.tolist() == [1, 1]


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    scores, labels = random_rows(200)
    pairs = [
        (p > q) + (p == q) / 2
        for p, a in zip(scores, labels, strict=True)
        for q, b in zip(scores, labels, strict=True)
        if a == 1 and b == 0
    ]
    auc, low, high = auc_with_interval(counts_of(scores, labels))
    assert auc == pytest.approx(sum(pairs) / len(pairs))
    assert low < auc < high


def test_the_interval_of_auc_is_delongs() -> None:
    scores, labels = random_rows(60)
    positives = [s for s, y in zip(scores, labels, strict=True) if y]
    negatives = [s for s, y in zip(scores, labels, strict=True) if not y]

    def wins(p: float, q: float) -> float:
        return float(p > q) + (p == q) / 2

    v10 = [np.mean([wins(p, q) for q in negatives]) for p in positives]
    v01 = [np.mean([wins(p, q) for p in positives]) for q in negatives]
    error = math.sqrt(np.var(v10, ddof=1) / len(v10) + np.var(v01, ddof=1) / len(v01))
    auc, low, high = auc_with_interval(counts_of(scores, labels))
    assert high - low == pytest.approx(2 * 1.959964 * error, rel=1e-6)
    assert auc - low == pytest.approx(high - auc)


def test_auc_of_a_single_class_is_not_a_number() -> None:
    assert all(math.isnan(value) for value in auc_with_interval(counts_of([0.1, 0.9], [1, 1])))


def test_figures_of_four_rows() -> None:
    metrics = metrics_of(counts_of([0.9, 0.8, 0.4, 0.5], [1, 0, 1, 0]))
    assert (metrics.tp, metrics.fp, metrics.fn, metrics.tn) == (1, 1, 1, 1)
    assert metrics.accuracy == 0.5
    assert metrics.macro_f1 == 0.5
    assert metrics.log_loss == pytest.approx(
        -(math.log(0.9) + math.log(0.2) + math.log(0.4) + math.log(0.5)) / 4
    )
    assert metrics.brier == pytest.approx((0.01 + 0.64 + 0.36 + 0.25) / 4)
    assert metrics.as_dict()["n"] == 4


def test_a_certain_wrong_probability_has_a_finite_log_loss() -> None:
    assert math.isfinite(metrics_of(counts_of([0.0, 1.0], [1, 0])).log_loss)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(TrainingError, match="no labelled rows"):
        metrics_of(counts_of([], []))


def test_wilson_interval_of_81_in_263() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_interval_stays_inside_zero_and_one() -> None:
    assert wilson(0, 10)[0] >= 0
    assert wilson(10, 10)[1] <= 1


def test_an_interval_holds_its_share_also_where_every_row_is_right_or_wrong() -> None:
    for n in range(1, 3000):
        for correct in (0, n):
            low, high = wilson(correct, n)
            assert 0.0 <= low <= correct / n <= high <= 1.0, n
