"""The neutral band: probabilities so close to one half that a verdict would be little better than a coin.

Belongs here: choosing its width on validation rows.
Does not belong here: applying it (``scoring``), whether a stream does (``streaming``); by default none does.

The labels of the corpus know no neutral tweets, so the width cannot be learned from any. It follows from the model's
own reliability instead: inside the band it is right less often than :data:`TARGET`.
"""

from dataclasses import dataclass

import numpy as np

from sentiment_assets.spark.curves import calibration_error
from sentiment_assets.spark.evaluation import REPORT, SELECTION, ScoreCounts, ScoredRows
from sentiment_assets.spark.scoring import THRESHOLD

TARGET = 0.6
"""A verdict that is right less often than this is not worth giving."""
LEAST_ROWS = 100
"""Fewer rows inside a band say nothing about it."""


@dataclass(frozen=True)
class Neutral:
    """What a band does on some rows.

    Attributes
    ----------
    band
        Half its width: ``neutral`` when |P(positive) - 0.5| is under it; 0 is no band.
    share
        Share of the rows inside.
    accuracy_inside, accuracy_outside
        Share of correct verdicts inside, if they were given, and outside; NaN without rows.
    """

    band: float
    share: float
    accuracy_inside: float
    accuracy_outside: float


def choose_band(counts: ScoreCounts, target: float = TARGET) -> float:
    """The widest band in which the model is right less often than ``target``; 0 when there is none.

    Parameters
    ----------
    counts
        Of validation rows; not those that the result is reported on.
    target
        Share of correct verdicts, between 0.5 and 1.

    Returns
    -------
    float
        Half the width, in steps of 0.01.
    """
    widths = np.round(np.arange(0.01, 0.5, 0.01), 2)
    rows = float((counts.positive + counts.negative).sum())
    inside = [(float(w), apply_band(counts, float(w))) for w in widths]
    found = [w for w, n in inside if n.share * rows >= LEAST_ROWS and n.accuracy_inside < target]
    return max(found, default=0.0)


def apply_band(counts: ScoreCounts, band: float) -> Neutral:
    """What a band of half width ``band`` does on the rows of ``counts``."""
    rows = counts.positive + counts.negative
    correct = np.where(counts.probability > THRESHOLD, counts.positive, counts.negative)
    inside = np.abs(counts.probability - THRESHOLD) < band
    return Neutral(
        band=band,
        share=float(rows[inside].sum() / rows.sum()),
        accuracy_inside=_share(float(correct[inside].sum()), float(rows[inside].sum())),
        accuracy_outside=_share(float(correct[~inside].sum()), float(rows[~inside].sum())),
    )


def trust_of(rows: ScoredRows) -> dict[str, float]:
    """Figures about a model's probabilities for its manifest.

    Returns
    -------
    dict
        ``neutral_band``, chosen on the selection half (0: none); ``neutral_share`` and ``neutral_accuracy`` (of the
        tweets outside), and ``calibration_error``, all of the report half.
    """
    counts = rows.half(REPORT).counts()
    neutral = apply_band(counts, choose_band(rows.half(SELECTION).counts()))
    return {
        "neutral_band": neutral.band,
        "neutral_share": neutral.share,
        "neutral_accuracy": neutral.accuracy_outside,
        "calibration_error": calibration_error(counts),
    }


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
