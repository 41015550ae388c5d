"""Curves and the neutral band, against definitions written out."""

import numpy as np
import pytest

from sentiment_assets.spark.curves import MOST_POINTS, calibration_error, precision_recall, reliability, roc
from sentiment_assets.spark.evaluation import ScoreCounts, ScoredRows, auc_with_interval
from sentiment_assets.spark.neutral import LEAST_ROWS, apply_band, choose_band, trust_of


def calibrated(n: int, seed: int = 1) -> ScoredRows:
    """Rows whose label is positive exactly as often as their probability says."""
    random = np.random.default_rng(seed)
    probability = random.random(n)
    return ScoredRows.of(np.arange(n), random.random(n) < 0.5, random.random(n) < probability, probability)


def test_the_area_under_the_curve_is_the_auc() -> None:
    counts = calibrated(20_000).counts()
    curve = roc(counts)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert len(curve.x) <= MOST_POINTS
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(auc_with_interval(counts)[0], abs=1e-3)


def test_precision_and_recall_of_four_rows() -> None:
    counts = ScoreCounts.of(
        np.array([0.9, 0.8, 0.7, 0.1]), np.array([1.0, 0, 1, 0]), np.array([0.0, 1, 0, 1])
    )
    curve = precision_recall(counts)
    assert curve.x.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert curve.y == pytest.approx([1, 0.5, 2 / 3, 0.5])


def test_bins_hold_every_row_once_and_a_calibrated_model_is_near_the_line() -> None:
    counts = calibrated(20_000).counts()
    bins = reliability(counts)
    assert sum(b.n for b in bins) == 20_000
    assert all(b.low <= b.predicted <= b.high for b in bins)
    assert calibration_error(counts) < 0.02


def test_a_model_that_is_always_sure_is_off_by_the_share_it_gets_wrong() -> None:
    counts = ScoreCounts.of(np.array([1.0, 1.0]), np.array([3.0, 0.0]), np.array([0.0, 1.0]))
    assert calibration_error(counts) == 0.25


def test_inside_the_band_the_model_is_right_less_often_than_the_target() -> None:
    counts = calibrated(20_000).counts()
    band = choose_band(counts)
    found = apply_band(counts, band)
    # A calibrated model is right (0.5 + band) of the time at the edge and half of that gain on average.
    assert band == pytest.approx(0.2, abs=0.04)
    assert found.accuracy_inside < 0.6 < found.accuracy_outside
    assert found.share == pytest.approx(2 * band, abs=0.02)
    assert apply_band(counts, band + 0.03).accuracy_inside >= 0.6


def test_a_model_that_is_never_in_doubt_has_no_band() -> None:
    rows = float(2 * LEAST_ROWS)
    sure = ScoreCounts.of(np.array([0.01, 0.99]), np.array([0.0, rows]), np.array([rows, 0.0]))
    assert choose_band(sure) == 0.0
    assert apply_band(sure, 0.0).share == 0.0


def test_the_band_is_chosen_on_one_half_and_reported_on_the_other() -> None:
    rows = calibrated(8000)
    report = rows.half("report")
    flipped = ScoredRows.of(
        rows.key, rows.report, np.where(rows.report, ~rows.positive, rows.positive), rows.probability
    )
    assert trust_of(flipped)["neutral_band"] == trust_of(rows)["neutral_band"]
    assert trust_of(flipped)["neutral_accuracy"] == pytest.approx(1 - trust_of(rows)["neutral_accuracy"])
    assert (
        trust_of(rows)["neutral_share"] == apply_band(report.counts(), trust_of(rows)["neutral_band"]).share
    )
