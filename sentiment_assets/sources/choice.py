"""Which labelled tweets a run uses: a named file, the published zip, or the generated sample.

Belongs here: the order of preference and the sentence that every result repeats.
Does not belong here: how a source is had (``published``, ``generated``) or checked (``inspection``).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fsspec.core import url_to_fs

from sentiment_assets.failures import SourceError
from sentiment_assets.settings import Settings, is_local, location
from sentiment_assets.sources import generated
from sentiment_assets.sources.progress import OnProgress, silent
from sentiment_assets.sources.sentiment140.published import UnreachableError, download
from sentiment_assets.sources.sentiment140.rows import ENCODING

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
    uri
        Where an object store has it; ``path`` is a copy of that. A cluster reads it from there.
    encoding
        Of the file, unless the caller knows better: SENTIMENT_ENCODING is about files of a person's own.
    """

    path: Path
    kind: Literal["file", "published", "generated"]
    note: str
    uri: str | None = None
    encoding: str = ENCODING

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
        A path or URI; ``"sample"`` for the generated sample; ``None`` for ``settings.data`` (of the same meaning), else
        the published zip, else, where it cannot be reached, the generated sample.
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
    named = data or settings.data
    if named == SAMPLE:
        return _generated(settings, generated_rows, NOT_REAL)
    if named:
        place = location(named)
        note = f"your file {place.name}"
        if is_local(place):
            return TrainingSource(place, "file", note, encoding=settings.encoding)
        copy = _copy(settings, str(place))
        return TrainingSource(copy, "file", note, uri=str(place), encoding=settings.encoding)
    try:
        return TrainingSource(download(settings, on_progress), "published", "Sentiment140 as published")
    except UnreachableError as error:
        return _generated(settings, generated_rows, f"{NOT_REAL}: {error.what.rstrip('.')}")


def _copy(settings: Settings, uri: str) -> Path:
    """A copy of an object, to be inspected; the same object is copied once."""
    filesystem, path = url_to_fs(uri)
    try:
        folder = settings.downloads / "objects" / str(filesystem.ukey(path))[:16]
        target = folder / Path(path).name
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            filesystem.get_file(path, str(part))
            part.replace(target)
    except OSError as error:
        raise SourceError(f"{uri} cannot be read ({error.strerror or error}).", "Check the URI.") from error
    return target


def _generated(settings: Settings, rows: int, note: str) -> TrainingSource:
    return TrainingSource(generated.write(settings, rows=rows), "generated", note)
