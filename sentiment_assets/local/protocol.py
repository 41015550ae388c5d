"""Measuring candidates by other protocols, from the command line; the assets and the chosen model stay as they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sentiment_assets.failures import TrainingError
from sentiment_assets.reports.content import PUBLISHED_VARIANTS
from sentiment_assets.reports.studies import ProtocolFigures, write_study
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.settings import Settings
from sentiment_assets.sources import resolve
from sentiment_assets.sources.sentiment140 import inspect
from sentiment_assets.spark.evaluation import Metrics
from sentiment_assets.spark.protocol import Measured, measure, split_rows
from sentiment_assets.spark.raw import read_labelled
from sentiment_assets.spark.session import build_session
from sentiment_assets.spark.training import CANDIDATES, Candidate

OURS = "nb_ngrams_logistic_regression"
PUBLISHED_BEST = "ngrams_chi2_logistic_regression"


def choose_candidates(names: str | None) -> list[Candidate]:
    """Candidates by comma; ``table``: every published cell and ours; None: the published best and ours.

    Raises
    ------
    TrainingError
        When a name is unknown.
    """
    if names is None:
        return [CANDIDATES[PUBLISHED_BEST], CANDIDATES[OURS]]
    if names == "table":
        table = [c for c in CANDIDATES.values() if c.variant in PUBLISHED_VARIANTS]
        return [*table, CANDIDATES[OURS]]
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",")))
    unknown = [name for name in wanted if name not in CANDIDATES]
    if unknown:
        raise TrainingError(
            f"There is no candidate {unknown[0]!r}.", f"Choose from: table, {', '.join(sorted(CANDIDATES))}."
        )
    return [CANDIDATES[name] for name in wanted]


def measure_protocols(
    settings: Settings,
    *,
    data: str | None,
    splits: Sequence[str],
    candidates: str | None,
    manual: Path | None,
    encoding: str | None,
    console: Console,
) -> dict[str, Any]:
    """Fit candidates under each split, measure them, and keep the figures for the report.

    Parameters
    ----------
    data, encoding
        The labelled file, all of it.
    manual
        A file labelled by hand on which every fitted candidate is measured too; its neutral rows are left out.

    Returns
    -------
    dict
        ``source`` and ``figures``, one record per split, candidate and set of test rows.

    Raises
    ------
    SourceError, TrainingError, SetupError
        When a file cannot be used, a candidate is unknown or cannot be fitted, or another training runs.
    """
    chosen = choose_candidates(candidates)
    settings.prepare()
    with only_one(settings, "train"):
        if manual is not None:
            inspect(manual, encoding=encoding or settings.encoding)
        source = resolve(settings, data, console.print)
        of_manual, encoding = encoding or settings.encoding, encoding or source.encoding
        found = inspect(source.path, encoding=encoding)
        spark = build_session(settings, role="training", app_name="sentiment-assets protocol")
        by_hand = read_labelled(spark, manual, of_manual).tweets.cache() if manual is not None else None
        figures: list[ProtocolFigures] = []
        for how in splits:
            train, test = split_rows(spark, found.path, how, encoding=encoding, seed=settings.seed)
            records: list[ProtocolFigures] = []
            for measured in measure(train, test, chosen, manual=by_hand, seed=settings.seed):
                records.append(_record(how, measured, measured.test, source.note))
                if measured.manual is not None:
                    records.append(_record(f"manual ({how})", measured, measured.manual, source.note))
                for record in records[-2 if measured.manual else -1 :]:
                    console.print(
                        f"           {record.split}: {record.candidate} {record.accuracy:.4f}",
                        highlight=False,
                    )
            write_study(settings, f"protocol-{how}", records)
            figures += records
    return {"source": source.note, "figures": [record.model_dump() for record in figures]}


def _record(split: str, measured: Measured, metrics: Metrics, source: str) -> ProtocolFigures:
    return ProtocolFigures(
        split=split,
        candidate=measured.candidate.name,
        source=source,
        rows_train=measured.fitted.rows,
        n=metrics.n,
        accuracy=metrics.accuracy,
        ci95_low=metrics.ci95_low,
        ci95_high=metrics.ci95_high,
        macro_f1=metrics.macro_f1,
        auc=metrics.auc,
        features_seconds=round(measured.fitted.features_seconds, 2),
        fit_seconds=round(measured.fitted.fit_seconds, 2),
    )
