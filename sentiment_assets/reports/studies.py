"""Measurements on demand that outlive their run: learning curve, other protocols, trials of a search.

Belongs here: their records and where they are kept, SENTIMENT_HOME/reports/studies. Does not belong here: measuring.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sentiment_assets.settings import Settings
from sentiment_assets.spark.tuning import Tried

Record = TypeVar("Record", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LearningPoint(_Frozen):
    """The chosen configuration, fitted on a part of the training rows and measured on all test rows."""

    rows: int
    accuracy: float
    ci95_low: float
    ci95_high: float
    n: int
    seconds: float


class ProtocolFigures(_Frozen):
    """One candidate under another split.

    Attributes
    ----------
    split
        ``published``, ``author``, ``text``, or ``manual (…)`` with the split that the candidate was trained by.
    source
        The data in a phrase.
    """

    split: str
    candidate: str
    source: str
    rows_train: int
    n: int
    accuracy: float
    ci95_low: float
    ci95_high: float
    macro_f1: float
    auc: float
    features_seconds: float
    fit_seconds: float


class Studies(_Frozen):
    """What was measured on demand; empty where nothing was."""

    learning_curve: Sequence[LearningPoint] = ()
    protocols: Sequence[ProtocolFigures] = ()
    trials: Sequence[Tried] = ()


def write_study(settings: Settings, name: str, records: Sequence[BaseModel]) -> Path:
    """Keep the records of one study, in place of its earlier ones; the file appears whole or not at all.

    Parameters
    ----------
    name
        ``learning_curve-<model version>``, ``protocol-<split>``, ``trials-<data version>-<candidate>``.
    """
    folder = settings.reports / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps([r.model_dump(mode="json") for r in records], indent=1), encoding="utf-8")
    return part.replace(path)


def read_studies(settings: Settings, *, model_version: str, data_version: str) -> Studies:
    """The learning curve of one model, the trials on one set of data, and all other protocols."""
    folder = settings.reports / "studies"
    protocols = [r for p in sorted(folder.glob("protocol-*.json")) for r in _read(p, ProtocolFigures)]
    return Studies(
        learning_curve=_read(folder / f"learning_curve-{model_version}.json", LearningPoint),
        protocols=protocols,
        trials=[r for p in sorted(folder.glob(f"trials-{data_version}-*.json")) for r in _read(p, Tried)],
    )


def read_trials(settings: Settings, *, candidate: str, data_version: str) -> list[Tried]:
    """The trials of all searches for a candidate on that data; none without a search."""
    return _read(settings.reports / "studies" / f"trials-{data_version}-{candidate}.json", Tried)


def _read(path: Path, record: type[Record]) -> list[Record]:
    """The records of a file; none when it is missing or of another version."""
    try:
        return [record.model_validate(item) for item in json.loads(path.read_bytes())]
    except (FileNotFoundError, ValidationError, json.JSONDecodeError):
        return []
