"""Which candidate deserves to be the chosen model: ranking and promotion as pure functions.

Belongs here: the policy.
Does not belong here: measuring (``spark.evaluation``) or moving the pointer (``store``).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from sentiment_assets.models.manifest import Manifest

ACCURACY = "selection_accuracy"
_ALL_ROWS = "accuracy"
_ROWS = "selection_n"
_MACRO_F1, _AUC = "selection_macro_f1", "selection_auc"

# The simpler and faster to score first, for candidates that are equally good.
_SIMPLEST_FIRST = (
    "naive_bayes",
    "logistic_regression",
    "linear_svm",
    "decision_tree",
    "random_forest",
)


@dataclass(frozen=True)
class Refusal:
    """A candidate that may not be promoted, and why."""

    version: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """What happens to the pointer.

    Parameters
    ----------
    action
        ``promote`` the version, ``keep`` the current model, or ``refuse`` because no candidate is sound.
    version
        The version that is chosen afterwards; ``None`` when there is none.
    reason
        One sentence.
    refused
        Candidates that were not considered.
    """

    action: Literal["promote", "keep", "refuse"]
    version: str | None
    reason: str
    refused: tuple[Refusal, ...] = ()


def rank(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Candidates from best to worst by their figures on the selection half.

    Those whose accuracy is within one standard error of the highest cannot be told apart by it (the one-standard-error
    rule of Hastie, Tibshirani & Friedman, "The Elements of Statistical Learning", 7.10): they come first, by area
    under the curve, which uses the order of all scores. The others follow by accuracy. Ties are broken by macro-F1,
    the simpler algorithm, the name and the version, so the order given does not matter. A candidate without figures
    comes last.
    """
    candidates = list(manifests)
    best = min(candidates, key=_rank_key, default=None)
    if best is None or best.metrics.get(ACCURACY) is None:
        return sorted(candidates, key=_rank_key)
    least = float(best.metrics[ACCURACY]) - _standard_error(best)
    return sorted(candidates, key=lambda one: _rank_key(one, as_good_from=least))


def _standard_error(manifest: Manifest) -> float:
    """Of the accuracy on the selection half; 0 where nobody counted its rows."""
    accuracy, n = float(manifest.metrics[ACCURACY]), int(manifest.metrics.get(_ROWS, 0))
    return math.sqrt(accuracy * (1 - accuracy) / n) if n else 0.0


def decide_promotion(
    ranked: Sequence[Manifest],
    current: Manifest | None,
    *,
    minimum_gain: float,
    leakage_ceiling: float,
    withdrawn: Sequence[Manifest] = (),
    force: bool = False,
) -> Decision:
    """Decide whether the best sound candidate replaces the current model.

    Parameters
    ----------
    ranked
        Candidates, the best first (:func:`rank`).
    current
        The chosen model, with metrics measured on the same rows as the candidates'; ``None``: none yet.
    minimum_gain
        Accuracy that a candidate must add.
    leakage_ceiling
        Accuracy above which a candidate is refused: the labels are too noisy for it (best published: 0.871).
    withdrawn
        Models that were rolled back: neither they nor what is made the same way from the same data come back by itself.
    force
        Promote the best sound candidate whatever the current model is.
    """
    refused = tuple(_refusals(ranked, leakage_ceiling, () if force else withdrawn))
    unsound = {refusal.version for refusal in refused}
    # Ranked anew: what is refused must not decide who is as good as the best.
    sound = rank(manifest for manifest in ranked if manifest.version not in unsound)
    current_version = current.version if current else None

    def keep(reason: str) -> Decision:
        return Decision("keep", current_version, reason, refused)

    if not sound:
        if current is not None and (back := next((one for one in ranked if _made_as(one, withdrawn)), None)):
            return keep(f"{back.name} was rolled back; promote it by name if it is to come back.")
        why = refused[0].reason if refused else "There is no candidate."
        return Decision("refuse", current_version, why, refused)
    best = sound[0]

    def promote(reason: str) -> Decision:
        return Decision("promote", best.version, reason, refused)

    accuracy = float(best.metrics[ACCURACY])
    if current is None:
        return promote(f"{best.name} is the best candidate ({accuracy:.4f}) and no model was chosen yet.")
    if best.version == current.version:
        return keep(f"{best.name} is the chosen model already.")
    if force:
        return promote(f"{best.name} ({accuracy:.4f}) was promoted on request.")
    if current.source.generated and not best.source.generated:
        return promote(f"{best.name} has learned from real tweets, the current model from generated ones.")
    if best.source.generated and not current.source.generated:
        return keep("The current model has learned from real tweets, the candidates from generated ones.")
    if current.metrics.get(ACCURACY) is None:
        return keep(
            f"{best.name} has {accuracy:.4f}, but nothing compares it with the current model, which has learned from "
            "some of these test tweets: promote it by name if it is to replace that."
        )
    before = float(current.metrics[ACCURACY])

    def gain(candidate: Manifest) -> float:
        return round(float(candidate.metrics[ACCURACY]) - before, 12)

    # The current model stands in the same ranking. So the same figures lead to the same choice, whoever was first.
    standing = rank([*(one for one in sound if one.version != current.version), current])
    ahead = list(takewhile(lambda one: one.version != current.version, standing))
    best = next((one for one in ahead if gain(one) >= minimum_gain), ahead[0] if ahead else best)
    figures = f"{best.name} has {float(best.metrics[ACCURACY]):.4f}, the current model {before:.4f} on the same tweets"
    if not ahead:
        return keep(f"{figures}: the current model ranks first.")
    if gain(best) < minimum_gain:
        return keep(f"{figures}: the gain of {gain(best):+.4f} is below {minimum_gain:.4f}.")
    return promote(f"{figures}: a gain of {gain(best):+.4f}.")


def leakage(manifest: Manifest, ceiling: float) -> str | None:
    """Why a candidate is too good to be true, if it is: its accuracy on the selection half or on all test rows."""
    accuracy = max(float(manifest.metrics.get(name) or 0.0) for name in (ACCURACY, _ALL_ROWS))
    if accuracy <= ceiling:
        return None
    return (
        f"{manifest.name} reaches {accuracy:.4f}, above {ceiling:.2f}: labels have leaked into the features, or test "
        "tweets into the training."
    )


def _rank_key(manifest: Manifest, *, as_good_from: float = math.inf) -> tuple[float | int | str, ...]:
    accuracy = manifest.metrics.get(ACCURACY)
    as_good = accuracy is not None and float(accuracy) >= as_good_from
    names = (_AUC, ACCURACY, _MACRO_F1) if as_good else (ACCURACY, _MACRO_F1, _AUC)
    figures = [manifest.metrics.get(name) for name in names]
    simplicity = (
        _SIMPLEST_FIRST.index(manifest.algorithm)
        if manifest.algorithm in _SIMPLEST_FIRST
        else len(_SIMPLEST_FIRST)
    )
    # A missing figure is worse than any: they all lie between 0 and 1.
    descending = [-(float(figure) if figure is not None else -1.0) for figure in figures]
    return (not as_good, *descending, simplicity, manifest.name, manifest.version)


def _refusals(
    ranked: Iterable[Manifest], leakage_ceiling: float, withdrawn: Sequence[Manifest]
) -> Iterable[Refusal]:
    for manifest in ranked:
        if manifest.metrics.get(ACCURACY) is None:
            yield Refusal(manifest.version, f"{manifest.name} has no accuracy on the selection half.")
        elif leak := leakage(manifest, leakage_ceiling):
            yield Refusal(manifest.version, leak)
        elif _made_as(manifest, withdrawn):
            yield Refusal(manifest.version, f"{manifest.name} was rolled back.")


def _made_as(manifest: Manifest, others: Iterable[Manifest]) -> bool:
    """Whether it is one of these models, or made from the same data by the same code and settings."""
    return any(_recipe(manifest) == _recipe(other) for other in others)


def _recipe(manifest: Manifest) -> tuple[object, ...]:
    # Features are fitted anew by each training: their version says nothing.
    params = {name: value for name, value in manifest.params.items() if name != "features"}
    return manifest.name, manifest.data_version, manifest.code_version, manifest.seed, params
