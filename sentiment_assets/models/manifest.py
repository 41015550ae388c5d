"""What is known about a stored model: from which data, by which code, how good, which files.

Belongs here: the record and its JSON. Does not belong here: where it is kept (``store``).
"""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

Kind = Literal["features", "candidate"]


class Source(BaseModel):
    """The tweets a model has learned from.

    Parameters
    ----------
    kind
        ``file`` (named by the user), ``published`` (Sentiment140) or ``generated`` (made up).
    file
        Name of the file, without its folder.
    note
        A phrase that every place showing a result repeats.
    sample
        Which rows of the source were used.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["file", "published", "generated"]
    file: str
    note: str
    sample: str = "all rows"

    @property
    def generated(self) -> bool:
        """Whether the tweets are made up, so that no figure says anything about real ones."""
        return self.kind == "generated"


class Draft(BaseModel):
    """A model's record before it is stored.

    Parameters
    ----------
    kind
        ``features`` (a fitted feature pipeline) or ``candidate`` (raw text to probability).
    name
        What it is: ``<variant>`` or ``<variant>_<algorithm>``.
    variant, algorithm
        Parts of the name; ``algorithm`` is empty for features.
    source, rows_train, data_version
        What it was fitted on.
    code_version, seed, params
        How it was fitted.
    test_fraction
        Share of the tweets that was set aside for tests; None in records of older releases.
    metrics
        Figures by name; those on the selection half begin with ``selection_``.
    run_id
        The Dagster run that made it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Kind
    name: str
    variant: str
    algorithm: str = ""
    source: Source
    rows_train: int
    data_version: str
    code_version: str
    seed: int
    test_fraction: float | None = None
    params: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    run_id: str | None = None


class Manifest(Draft):
    """The record of a stored model, written once.

    Parameters
    ----------
    version
        Sorts by time and can be read: ``20261124-083000-ngrams_logistic_regression-1a2b``.
    created_at
        When it was stored, UTC.
    pins
        Versions of the packages that wrote it.
    files
        Relative path -> (bytes, SHA-256) of every file.
    """

    version: str
    created_at: datetime
    pins: dict[str, str]
    files: dict[str, tuple[int, str]]

    def with_metrics(self, metrics: dict[str, Any]) -> Self:
        """The same model with figures measured on other rows, for a comparison; what is stored stays."""
        return self.model_copy(update={"metrics": metrics})


class Scorer(BaseModel):
    """How a stored model is applied: by tables compiled from it, or by its own pipeline, and why.

    Kept beside the manifest, which is written once: a model can be compiled anew.

    Parameters
    ----------
    compiled
        Whether the compiled tables agree with the pipeline and may serve.
    reason
        Half a sentence: what was shown, or why not.
    made_with
        What has to be the same wherever the tables serve (compiler, Java, Spark).
    rows, labels_differ, max_difference
        Texts scored both ways, how many got another label, and the largest difference of P(positive).
    files
        Relative path -> (bytes, SHA-256) of the tables.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    compiled: bool
    reason: str
    made_with: dict[str, str] = {}
    rows: int = 0
    labels_differ: int = 0
    max_difference: float | None = None
    files: dict[str, tuple[int, str]] = {}

    @property
    def title(self) -> str:
        """What scores, for people."""
        return f"compiled ({self.reason})" if self.compiled else f"MLlib pipeline ({self.reason})"
