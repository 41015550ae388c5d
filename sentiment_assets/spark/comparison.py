"""Whether two models differ by more than chance, on the rows that both were scored on.

Belongs here: paired comparisons. Does not belong here: figures of one model (``evaluation``).
"""

import math
from dataclasses import dataclass

import numpy as np

from sentiment_assets.failures import TrainingError
from sentiment_assets.spark.evaluation import Z95, ScoredRows


@dataclass(frozen=True)
class McNemar:
    """Whether two models err on the same rows.

    Attributes
    ----------
    only_first, only_second
        Rows that only the first, only the second model got right.
    p_value
        Of the two being equally accurate: chi-square with continuity correction (Edwards 1948).
    n
        Rows that both were scored on.
    gain, ci95_low, ci95_high
        Accuracy of the first minus that of the second, with the 95 % interval for paired shares (Wald's).
    """

    only_first: int
    only_second: int
    p_value: float
    n: int
    gain: float
    ci95_low: float
    ci95_high: float


def compare(first: ScoredRows, second: ScoredRows) -> McNemar:
    """McNemar's test of two models on the same rows.

    Raises
    ------
    TrainingError
        When they were scored on different rows.
    """
    if not np.array_equal(first.key, second.key):
        raise TrainingError(
            "The two models were scored on different test rows.", "Train both on the current train_tweets."
        )
    right, other = first.correct(), second.correct()
    return mcnemar(int((right & ~other).sum()), int((~right & other).sum()), len(right))


def mcnemar(only_first: int, only_second: int, n: int) -> McNemar:
    """McNemar's test from the rows that exactly one of two models got right, of ``n`` rows."""
    discordant, difference = only_first + only_second, only_first - only_second
    statistic = max(abs(difference) - 1, 0) ** 2 / discordant if discordant else 0.0
    spread = Z95 * math.sqrt(max(discordant - difference**2 / n, 0)) / n
    gain = difference / n
    return McNemar(
        only_first,
        only_second,
        math.erfc(math.sqrt(statistic / 2)),
        n=n,
        gain=gain,
        ci95_low=gain - spread,
        ci95_high=gain + spread,
    )
