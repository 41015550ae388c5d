"""Which labelled tweets a run uses: a named file, the published zip, or the generated sample.

Belongs here: the order of preference and the sentence that every result repeats.
Does not belong here: how a source is had (``published``, ``generated``) or checked (``inspection``).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sentiment_assets.settings import Settings
from sentiment_assets.sources import generated
from sentiment_assets.sources.progress import OnProgress, silent
from sentiment_assets.sources.sentiment140.published import UnreachableError, download

SAMPLE = "sample"
NOT_REAL = "generated sample, not real tweets"


@dataclass(frozen=True)
class TrainingSource:
    """Where labelled tweets come from.

    Parameters
    ----------
    path
        CSV or zip in Sentiment140's format.
    kind
        ``file`` (named by the user), ``published`` (Sentiment140) or ``generated``.
    note
        A phrase about it that every place showing a result repeats.
    """

    path: Path
    kind: Literal["file", "published", "generated"]
    note: str

    @property
    def generated(self) -> bool:
        """Whether the tweets are made up."""
        return self.kind == "generated"


def resolve(
    settings: Settings,
    data: str | None = None,
    on_progress: OnProgress = silent,
    *,
    generated_rows: int = generated.ROWS,
) -> TrainingSource:
    """Decide on the source and make it available as a local file. The file is not inspected yet.

    Parameters
    ----------
    settings
        Their ``data`` counts where the caller names none.
    data
        A path; ``"sample"`` for the generated sample; ``None`` for ``settings.data`` (of the same meaning), else the
        published zip, else, where it cannot be reached, the generated sample.
    on_progress
        Called with lines of text while something is downloaded.
    generated_rows
        Size of the generated sample, should it come to that.

    Raises
    ------
    SourceError
        When the published address sends something else than Sentiment140, or the download is interrupted.
    SetupError
        When the downloads folder cannot be written.
    """
    named = Path(data) if data else settings.data
    if named == Path(SAMPLE):
        return _generated(settings, generated_rows, NOT_REAL)
    if named is not None:
        return TrainingSource(named.expanduser().absolute(), "file", f"your file {named.name}")
    try:
        return TrainingSource(download(settings, on_progress), "published", "Sentiment140 as published")
    except UnreachableError as error:
        return _generated(settings, generated_rows, f"{NOT_REAL}: {error.what.rstrip('.')}")


def _generated(settings: Settings, rows: int, note: str) -> TrainingSource:
    return TrainingSource(generated.write(settings, rows=rows), "generated", note)
