"""The published zip: fetched once, verified, kept.

Belongs here: what proves that the zip is the one.
Does not belong here: the transfer (``transfer``), what to do where it cannot be reached (``choice``).
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from sentiment_assets.failures import SetupError, SourceError
from sentiment_assets.settings import Settings
from sentiment_assets.sources.progress import OnProgress, silent
from sentiment_assets.sources.sentiment140.inspection import inspect

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """What the zip is known to be.

    Parameters
    ----------
    md5
        Hash that the datamaestro project records. It may age: another hash with the right shape is accepted
        with a warning.
    rows
        Usable rows, half of them of each label.
    """

    md5: str
    rows: int


SENTIMENT140 = Publication(md5="1647eb110dd2492512e27b9a70d5d1bc", rows=1_600_000)


class UnreachableError(SourceError):
    """The address did not answer with the file; another source may be used instead."""


def download(
    settings: Settings, on_progress: OnProgress = silent, *, expected: Publication = SENTIMENT140
) -> Path:
    """Path of the verified zip in the downloads folder, fetched if it is not there.

    Parameters
    ----------
    settings
        Name the address (``source_url``) and the folder.
    on_progress
        Called every two seconds of the transfer with a line of text.
    expected
        What proves that the file is the right one.

    Raises
    ------
    UnreachableError
        When no connection can be made within seconds, or the server refuses.
    SourceError
        When the transfer breaks off for good (what arrived is kept and the next call goes on from there), or
        what was sent is not Sentiment140.
    SetupError
        When the folder cannot be written.
    """
    name = settings.source_url.rstrip("/").rsplit("/", 1)[-1] or "download.zip"
    target = settings.downloads / name
    try:
        settings.downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{name}.lock"), timeout=0):
            if not target.is_file():
                _fetch(settings.source_url, target, on_progress)
            _verify(target, expected, settings.source_url, on_progress)
    except Timeout as error:
        raise SourceError(
            f"Another process is downloading {name} already.", "Wait until it is done, then start again."
        ) from error
    except OSError as error:
        raise SetupError(
            f"The download cannot be kept in {settings.downloads} ({error.strerror or error}).",
            "Free some disk, make the folder writable, or point SENTIMENT_HOME at another folder.",
        ) from error
    return target


def _fetch(url: str, target: Path, on_progress: OnProgress) -> None:
    # Imported here: the HTTP client costs every other command 0.4 s.
    from sentiment_assets.sources.sentiment140.transfer import BrokenOffError, TransferError, fetch

    on_progress(f"downloading {url}")
    try:
        fetch(url, target, on_progress)
    except BrokenOffError as error:
        # Not unreachable: who waited for half of the real data must not be given made-up tweets.
        raise SourceError(
            f"The download of {url} was interrupted ({error}).",
            "Start again: it goes on from there. Or name a file with --data, or use --data sample.",
        ) from error
    except TransferError as error:
        raise UnreachableError(
            f"{url} cannot be fetched ({error}).",
            "Start again when it can be reached, or name a file with --data.",
        ) from error


def _verify(zip_file: Path, expected: Publication, url: str, on_progress: OnProgress) -> None:
    """Accept the known hash, or another one with the right shape; remove anything else."""
    with zip_file.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 == expected.md5:
        return
    try:
        found = inspect(zip_file, on_progress=on_progress)
    except SourceError as error:
        zip_file.unlink()
        raise SourceError(
            f"What {url} sent is not Sentiment140 ({error.what})", "Start again, or name a file with --data."
        ) from error
    if not found.negative == found.positive == expected.rows // 2:
        zip_file.unlink()
        raise SourceError(
            f"What {url} sent has {found.negative:,} negative and {found.positive:,} positive rows, "
            f"not {expected.rows // 2:,} of each.",
            "Name the file with --data if it is what you want, or start again.",
        )
    logger.warning("%s has the MD5 %s instead of %s, but the right shape.", zip_file, md5, expected.md5)
