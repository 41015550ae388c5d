"""Paired comparison of two models."""

import math

import numpy as np
import pytest

from sentiment_assets.failures import TrainingError
from sentiment_assets.spark.comparison import compare, mcnemar
from sentiment_assets.spark.evaluation import ScoredRows


def scored(*probabilities: float, key: tuple[int, ...] = (1, 2, 3, 4)) -> ScoredRows:
    labels = np.array([True, True, False, False])
    return ScoredRows.of(np.array(key), np.zeros(4, bool), labels, np.array(probabilities))


def test_equal_models_are_no_evidence() -> None:
    assert mcnemar(0, 0, 10).p_value == 1.0
    assert mcnemar(7, 7, 20).p_value == 1.0
    assert (mcnemar(0, 0, 10).ci95_low, mcnemar(0, 0, 10).ci95_high) == (0.0, 0.0)


def test_mcnemar_of_a_textbook_table() -> None:
    # 121 against 59: chi-square with continuity correction (62 - 1)^2 / 180 = 20.67.
    found = mcnemar(121, 59, 1000)
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(20.672 / 2)), rel=1e-3)
    assert found.gain == pytest.approx(0.062)
    assert found.ci95_low == pytest.approx(0.062 - 1.959964 * math.sqrt(180 - 3.844) / 1000)


def test_the_rows_that_only_one_model_gets_right_are_counted() -> None:
    result = compare(scored(0.9, 0.9, 0.9, 0.2), scored(0.1, 0.8, 0.1, 0.7))
    assert (result.only_first, result.only_second, result.n, result.gain) == (2, 1, 4, 0.25)


def test_rows_are_paired_by_their_text_whatever_their_order() -> None:
    one = scored(0.9, 0.9, 0.2, 0.2)
    turned = ScoredRows.of(one.key[::-1], one.report[::-1], one.positive[::-1], one.probability[::-1])
    assert compare(one, turned).p_value == 1.0
    assert compare(one, turned).only_first == 0


def test_models_of_different_rows_cannot_be_compared() -> None:
    with pytest.raises(TrainingError, match="different test rows"):
        compare(scored(1, 1, 0, 0), scored(1, 1, 0, 0, key=(1, 2, 3, 5)))
