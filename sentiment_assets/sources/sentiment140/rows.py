"""The format of Sentiment140: headerless CSV, six quoted columns, latin-1, alone or in a zip.

Belongs here: what a row is and what makes one unusable.
Does not belong here: judging a whole file (``inspection``).
"""

import codecs
import csv
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from sentiment_assets.failures import SourceError

COLUMNS = ("target", "tweet_id", "date", "flag", "author", "text")
NEGATIVE, NEUTRAL, POSITIVE = 0, 2, 4
TARGETS = {"0": NEGATIVE, "2": NEUTRAL, "4": POSITIVE}

ENCODING = "ISO-8859-1"
TRAINING_MEMBER = "training.1600000.processed.noemoticon.csv"
FORMAT = "Expected: CSV without header, six columns (target, id, date, flag, user, text), target 0 or 4."
_CODECS = {"iso8859-1": "iso8859-1", "ascii": "iso8859-1", "utf-8": "utf-8-sig", "utf-8-sig": "utf-8-sig"}
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")

WRONG_COLUMNS = "not six columns"
UNKNOWN_LABEL = "unknown label"
MISSING_ID = "no id"
EMPTY_TEXT = "empty text"
SEVERAL_LINES = "a line break inside a value"


class LabelledRow(NamedTuple):
    """One labelled tweet; ``target`` is 0 (negative), 2 (neutral) or 4 (positive)."""

    target: int
    tweet_id: str
    date: str
    flag: str
    author: str
    text: str


def iter_rows(path: Path, encoding: str = ENCODING) -> Iterator[LabelledRow]:
    """Yield the usable rows of a labelled file in file order.

    Unusable rows are skipped; :func:`~sentiment_assets.sources.sentiment140.inspect` counts them.

    Parameters
    ----------
    path
        CSV in Sentiment140's format, or a zip with one.
    encoding
        Python or Java name of the file's encoding.

    Raises
    ------
    SourceError
        When the file cannot be opened, a zip is damaged or holds no training CSV, or the encoding is
        not supported.
    """
    codec = codec_name(encoding)
    with open_binary(path) as (stream, _):
        text = io.TextIOWrapper(stream, encoding=codec, errors="replace", newline="")
        for fields in parse(text):
            if problem(fields) is None:
                target, *others = fields
                yield LabelledRow(TARGETS[target.strip()], *others)


def codec_name(encoding: str) -> str:
    """Python's codec for a supported encoding: ``iso8859-1``, or ``utf-8-sig`` (with or without mark).

    Raises
    ------
    SourceError
        For any other encoding: Spark reads few, so the file has to be converted.
    """
    try:
        return _CODECS[codecs.lookup(encoding).name]
    except LookupError as error:
        raise SourceError(
            f"The encoding {encoding!r} is not supported.",
            "Use ISO-8859-1 or UTF-8; convert other files: `iconv -f FROM -t UTF-8 FILE > utf8.csv`.",
        ) from error


def common_name(encoding: str) -> str:
    """``ISO-8859-1`` or ``UTF-8`` for any of their names; raises as :func:`codec_name`."""
    return ENCODING if codec_name(encoding) == codec_name(ENCODING) else "UTF-8"


def problem(fields: list[str]) -> str | None:
    """Why a parsed row cannot be used, or ``None``."""
    if len(fields) != len(COLUMNS):
        return WRONG_COLUMNS
    if fields[0].strip() not in TARGETS:
        return UNKNOWN_LABEL
    if not fields[1].strip():
        return MISSING_ID
    if not fields[5].strip():
        return EMPTY_TEXT
    return None


def parse(lines: Iterator[str] | IO[str]) -> Iterator[list[str]]:
    """Parse CSV records; a record that is not CSV comes back as an empty list, a blank line not at all."""
    reader = csv.reader(lines)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield []
            continue
        if fields:
            yield fields


@contextmanager
def open_binary(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open the CSV's bytes, those inside a zip included; also gives their number.

    Raises
    ------
    SourceError
        When the file is missing, a folder or unreadable, the zip is damaged, or it holds no training CSV.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) not in _ZIP_MAGICS:
                stream.seek(0)
                yield stream, path.stat().st_size
                return
        with zipfile.ZipFile(path) as archive:
            member = training_member(archive, path)
            with archive.open(member) as content:
                yield content, member.file_size
    except FileNotFoundError as error:
        raise SourceError(f"The file {path} does not exist.", "Check the path.") from error
    except IsADirectoryError as error:
        raise SourceError(f"{path} is a folder, not a file.", "Name a CSV or zip file in it.") from error
    except OSError as error:
        raise SourceError(
            f"The file {path} cannot be read ({error.strerror or error}).",
            "Mend its permissions or its disk, or name another file.",
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise SourceError(
            f"The zip {path} is damaged or incomplete ({error}).", "Delete it and download it again."
        ) from error
    except RuntimeError as error:
        if "password" not in str(error):
            raise
        raise SourceError(f"The zip {path} is encrypted.", "Unpack it and name the CSV in it.") from error


def training_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The CSV to read in a zip: Sentiment140's training file, else the only CSV.

    Raises
    ------
    SourceError
        When there is none, or several and none is the training file.
    """
    members = [
        member
        for member in archive.infolist()
        if member.filename.lower().endswith(".csv") and not member.filename.startswith("__MACOSX/")
    ]
    for member in members:
        if Path(member.filename).name == TRAINING_MEMBER:
            return member
    if len(members) == 1:
        return members[0]
    found = ", ".join(sorted(archive.namelist())[:5]) or "nothing"
    raise SourceError(
        f"The zip {path} does not hold {TRAINING_MEMBER} (it holds {found}).",
        "Name the published trainingandtestdata.zip, or unpack the zip and name the CSV in it.",
    )
