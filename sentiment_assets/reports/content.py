"""Everything that a training report says, gathered from the model store; no drawing and no wording of pages.

Belongs here: which candidates are compared, on which rows, and the sentences that say why one was chosen.
Does not belong here: plots (``plots``), the pages (``pages``), how figures are measured (``spark``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sentiment_assets.failures import ModelError
from sentiment_assets.models.manifest import Manifest
from sentiment_assets.models.selection import rank
from sentiment_assets.models.store import BY_HAND, ModelStore, Promotion
from sentiment_assets.reports import published
from sentiment_assets.reports.studies import LearningPoint, ProtocolFigures, Studies
from sentiment_assets.spark.comparison import McNemar, compare
from sentiment_assets.spark.curves import calibration_error
from sentiment_assets.spark.evaluation import REPORT, SELECTION, ScoredRows
from sentiment_assets.spark.evidence import read_scores, read_terms
from sentiment_assets.spark.explain import TellingTerms
from sentiment_assets.spark.features import VARIANTS
from sentiment_assets.spark.neutral import Neutral, apply_band, choose_band
from sentiment_assets.spark.training import ALGORITHMS
from sentiment_assets.spark.tuning import Tried

PUBLISHED_VARIANTS = {row.variant for row in published.TABLE_1}
CHANCE = 0.05
"""A difference that chance alone would give less often than this counts as real."""


@dataclass(frozen=True)
class RunRecords:
    """What the orchestrator remembers of the runs that trained the candidates.

    Attributes
    ----------
    steps
        Step -> seconds, of the newest run that executed it.
    counts
        Rows read, dropped by reason and kept, as ``cleaned_tweets`` recorded them.
    """

    steps: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One candidate of the leaderboard.

    Attributes
    ----------
    title
        Algorithm and features in words.
    scores
        Its scores of the test rows; None where they were not kept.
    calibration_error
        On the half that is only reported; None without scores.
    """

    manifest: Manifest
    title: str
    chosen: bool
    scores: ScoredRows | None
    calibration_error: float | None

    @property
    def description(self) -> str:
        """What its features are, in a sentence; empty for a variant that is no more."""
        variant = VARIANTS.get(self.manifest.variant)
        return variant.description if variant else ""

    @property
    def figures(self) -> Mapping[str, Any]:
        """Metrics by name."""
        return self.manifest.metrics


@dataclass(frozen=True)
class TableRow:
    """A row of the published table: accuracy by algorithm, theirs and ours (None: not trained)."""

    title: str
    theirs: Mapping[str, float]
    ours: Mapping[str, Entry | None]


class Reason(NamedTuple):
    """A reason for the choice: in a few words, and in full."""

    head: str
    detail: str


@dataclass(frozen=True)
class TrainingReport:
    """Content of the report.

    Attributes
    ----------
    entries
        Candidates that were trained on the current data, best first by accuracy on the selection half.
    chosen
        The chosen model; one of ``entries`` unless it was trained earlier on other rows and kept.
    runner_up
        The best candidate beside the chosen one.
    paired, paired_published
        Chosen model against the runner-up, and against the best published configuration, on the report half.
    neutral
        Band chosen on the selection half, and what it does on the report half.
    decision
        Why the pointer stands where it stands, as recorded when it moved.
    by_hand
        What a person did that moved it there; empty where a training did.
    """

    chosen: Entry
    entries: Sequence[Entry]
    runner_up: Entry | None
    best_published: Entry | None
    paired: McNemar | None
    paired_published: McNemar | None
    neutral: Neutral | None
    terms: TellingTerms | None
    table: Sequence[TableRow]
    decision: str
    by_hand: str
    records: RunRecords
    learning_curve: Sequence[LearningPoint]
    protocols: Sequence[ProtocolFigures]
    trials: Sequence[Tried]

    @property
    def generated(self) -> bool:
        """Whether the tweets are made up."""
        return self.chosen.manifest.source.generated

    @property
    def kept(self) -> bool:
        """Whether the chosen model is an earlier one, trained on other rows than the candidates shown."""
        return self.chosen.manifest.version not in {e.manifest.version for e in self.entries}

    @property
    def complete(self) -> bool:
        """Whether every cell of the published table was trained."""
        return all(entry is not None for row in self.table for entry in row.ours.values())

    def reasons(self) -> list[Reason]:
        """Why this model, for a person who sees it for the first time."""
        return list(_reasons(self))


def gather(store: ModelStore, data_version: str, records: RunRecords, studies: Studies) -> TrainingReport:
    """Read the store and the candidates' evidence.

    Parameters
    ----------
    store
        Where the candidates are.
    data_version
        Of ``train_tweets``: candidates of other data are not compared.
    records, studies
        What the runs and the studies on demand left.

    Raises
    ------
    ModelError
        When no model is chosen or no candidate was trained on this data.
    """
    version = store.chosen()
    trained = [m for name in _names(store) if (m := store.latest("candidate", name, data_version))]
    if version is None or not trained:
        raise nothing_to_report()
    entries = [_entry(m, store.folder(m.version), chosen=m.version == version) for m in rank(trained)]
    chosen = next((e for e in entries if e.chosen), None) or _entry(
        store.manifest(version), store.folder(version), chosen=True
    )
    others = [e for e in entries if not e.chosen]
    best_published = next((e for e in others if e.manifest.variant in PUBLISHED_VARIANTS), None)
    runner_up = others[0] if others else None
    history = store.history()
    return TrainingReport(
        chosen=chosen,
        entries=entries,
        runner_up=runner_up,
        best_published=best_published,
        paired=_paired(chosen, runner_up),
        paired_published=_paired(chosen, best_published),
        neutral=_neutral(chosen.scores),
        terms=read_terms(store.folder(version)),
        table=_table(entries),
        decision=next((p.reason for p in reversed(history) if p.version == version and not p.withdrawn), ""),
        by_hand=_by_hand(history),
        records=records,
        learning_curve=studies.learning_curve,
        protocols=studies.protocols,
        trials=studies.trials,
    )


def nothing_to_report() -> ModelError:
    """The error of a home in which nothing was trained yet."""
    return ModelError(
        "There is nothing to report: no candidate was trained on the current train_tweets and chosen.",
        "Run `sentiment-assets train`, or materialize a candidate and chosen_model.",
    )


def title_of(variant: str, algorithm: str) -> str:
    """``Logistic regression on word and character n-grams``; unknown names stay as they are."""
    features = VARIANTS[variant].title if variant in VARIANTS else variant
    classifier = ALGORITHMS[algorithm].title if algorithm in ALGORITHMS else algorithm
    lowered = features if features[1:2].isupper() else features[0].lower() + features[1:]
    return f"{classifier} on {lowered}"


def _names(store: ModelStore) -> list[str]:
    return sorted({manifest.name for manifest in store.versions("candidate")})


def _entry(manifest: Manifest, folder: Path, *, chosen: bool) -> Entry:
    scores = read_scores(folder)
    error = calibration_error(scores.half(REPORT).counts()) if scores is not None else None
    return Entry(manifest, title_of(manifest.variant, manifest.algorithm), chosen, scores, error)


def _by_hand(history: Sequence[Promotion]) -> str:
    """What a person did that made the chosen model the chosen one; empty where the gate decided."""
    if not history:
        return ""
    if history[-1].withdrawn:
        return "A later model was rolled back."
    return "A person promoted it." if history[-1].reason == BY_HAND else ""


def _paired(first: Entry, second: Entry | None) -> McNemar | None:
    if second is None or first.scores is None or second.scores is None:
        return None
    if first.manifest.data_version != second.manifest.data_version:
        return None
    return compare(first.scores.half(REPORT), second.scores.half(REPORT))


def _neutral(scores: ScoredRows | None) -> Neutral | None:
    if scores is None:
        return None
    return apply_band(scores.half(REPORT).counts(), choose_band(scores.half(SELECTION).counts()))


def _table(entries: Sequence[Entry]) -> list[TableRow]:
    found = {(e.manifest.variant, e.manifest.algorithm): e for e in entries}
    return [
        TableRow(row.title, row.accuracy, {name: found.get((row.variant, name)) for name in row.accuracy})
        for row in published.TABLE_1
    ]


def percent(share: float, digits: int = 1) -> str:
    """A share as a person reads it; the sign stays on the line of its number."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}"


def _reasons(report: TrainingReport) -> Iterator[Reason]:
    chosen, best = report.chosen, report.entries[0]
    accuracy = chosen.figures.get("selection_accuracy")
    if report.by_hand:
        earlier = f" It was trained earlier, on {chosen.manifest.rows_train:,} tweets." if report.kept else ""
        yield Reason(report.by_hand, f"The candidates below are those of the newest training.{earlier}")
    elif report.kept:
        yield Reason(
            "It was in use already.",
            f"It was trained earlier, on {chosen.manifest.rows_train:,} other tweets, and no candidate of this "
            "training beat it by enough; the candidates below are those of this training.",
        )
    elif accuracy is not None:
        place = f"{percent(accuracy)} of the {chosen.figures['selection_n']:,} tweets set aside for choosing"
        if not best.chosen:
            reached = percent(best.figures["selection_accuracy"])
            # It was in use before, or the first did not gain enough over the one before it, and this one did.
            yield Reason(
                "It does not rank first.",
                f"It is right on {place}. {best.title} ranks first with {reached}: not the gain that it takes to "
                "replace a model in use.",
            )
        elif report.runner_up is None:
            yield Reason("It is the only candidate.", f"It is right on {place}.")
        else:
            other = report.runner_up.figures
            detail = (
                f"It is right on {place}; the runner-up, {_lowered(report.runner_up.title)}, on "
                f"{percent(other['selection_accuracy'])}."
            )
            if other["selection_accuracy"] >= accuracy:
                detail += (
                    " These are within one standard error, so the area under the curve decides: "
                    f"{chosen.figures['selection_auc']:.4f} against {other['selection_auc']:.4f}."
                )
            yield Reason(f"It came first of {len(report.entries)}.", detail)
    if report.paired and report.runner_up:
        yield _compared(report.paired, report.runner_up, "the runner-up")
    if report.paired_published and report.best_published and report.best_published is not report.runner_up:
        yield _compared(
            report.paired_published, report.best_published, "the best published recipe trained here"
        )
    if report.decision:
        yield Reason("On record when it was chosen:", report.decision)


def _compared(test: McNemar, other: Entry, name: str) -> Reason:
    gap = f"{abs(100 * test.gain):.1f} points {'more' if test.gain >= 0 else 'less'}"
    if test.p_value >= CHANCE:
        head = f"It is about as good as {name}."
        verdict = f"Chance alone could explain that (p = {test.p_value:.2f}): treat the two as equals."
    else:
        head = f"It {'beats' if test.gain > 0 else 'falls behind'} {name}."
        rare = (
            "less than 1 time in 10,000" if test.p_value < 1e-4 else f"1 time in {round(1 / test.p_value):,}"
        )
        verdict = f"Chance alone would give so much {rare}."
    return Reason(
        head,
        f"On the {test.n:,} tweets that no decision has seen it gets {gap} right than {_lowered(other.title)} "
        f"(95 % interval {points(test.ci95_low)} to {points(test.ci95_high)}). {verdict} Tweet by tweet: "
        f"{test.only_first:,} only it gets right, {test.only_second:,} only the other (McNemar's test).",
    )


def _lowered(title: str) -> str:
    """A title inside a sentence."""
    return title[0].lower() + title[1:]
