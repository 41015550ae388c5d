"""Checks that stop a broken file before it replaces good data, in one streaming pass without a JVM.

Belongs here: judging a whole file. Does not belong here: what one row is (``rows``).
"""

import codecs
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sentiment_assets.failures import SourceError
from sentiment_assets.sources.progress import ByteProgress, OnProgress, silent
from sentiment_assets.sources.sentiment140 import rows

MALFORMED_SHARE = 0.05

# Most of the real file's non-ASCII rows happen to be valid UTF-8; about one in eight is not (measured on
# 1,934 of them). So a latin-1 file whose 50 non-ASCII rows are all valid has a chance of 1 in 1,000, and one
# of which more than 5 % are non-ASCII is not Sentiment140, where 0.9 % are.
_UTF8_ROWS_MANY = 50
_UTF8_ROWS_FEW = 3
_UTF8_SHARE = 0.05
_LOST_CHARACTER = "\N{REPLACEMENT CHARACTER}".encode().decode("latin-1")

# A stray NUL does no harm; text in UTF-16 is half NULs.
_NUL_SHARE = 0.01

_BLOCK = 1 << 20
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@dataclass(frozen=True)
class SourceFile:
    """What a sound file holds.

    Parameters
    ----------
    path
        The file as named by the caller; may be a zip.
    size
        Bytes of the CSV.
    sha256
        Hash of the CSV: alike for a zip and for the CSV unpacked from it.
    negative, neutral, positive
        Usable rows by label.
    rejected
        Reason -> number of unusable rows.
    """

    path: Path
    size: int
    sha256: str
    negative: int
    neutral: int
    positive: int
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Usable rows."""
        return self.negative + self.neutral + self.positive


def inspect(
    path: Path,
    encoding: str = rows.ENCODING,
    *,
    both_labels: bool = True,
    on_progress: OnProgress = silent,
) -> SourceFile:
    """Read a labelled file once and say what it holds.

    Parameters
    ----------
    path
        CSV in Sentiment140's format, or a zip with one.
    encoding
        ISO-8859-1 or UTF-8.
    both_labels
        Whether it is for training or evaluation, not for a replay: then a file of one label only is an error, and a
        record of several lines unusable, since Spark reads each line as a row of its own.
    on_progress
        Called every two seconds with a line of text.

    Raises
    ------
    SourceError
        When the file is missing, a folder, unreadable, empty or truncated, has another encoding or other
        columns, starts with a header, holds one label only, more than 5 % unusable rows, or when a zip is
        damaged or holds no training CSV.
    """
    codec = rows.codec_name(encoding)
    with rows.open_binary(path) as (stream, size):
        watched = _Watched(stream, size, path, on_progress)
        text = io.TextIOWrapper(io.BufferedReader(watched, _BLOCK), codec, errors="replace", newline="")
        lines = _Lines(text)
        tally = _Tally(line_a_row=both_labels)
        for fields in rows.parse(lines):
            tally.add(fields, lines.record)
            lines.start_record()
    _check_encoding(path, codec, watched, tally)
    _check_start(path, tally)
    _check_end(path, watched, tally)
    _check_rows(path, tally)
    _check_labels(path, tally, both_labels)
    return SourceFile(
        path=path,
        size=watched.size,
        sha256=watched.sha256.hexdigest(),
        negative=tally.labels[str(rows.NEGATIVE)],
        neutral=tally.labels[str(rows.NEUTRAL)],
        positive=tally.labels[str(rows.POSITIVE)],
        rejected=dict(tally.rejected),
    )


class _Watched(io.RawIOBase):
    """The CSV's bytes on their way to the decoder: hashed, counted, looked at for their encoding."""

    def __init__(self, stream: IO[bytes], total: int, path: Path, on_progress: OnProgress) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.is_utf8 = True
        self.last_byte = b""
        self._stream = stream
        self._path = path
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._progress = ByteProgress(f"checking {path.name}", total, on_progress)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._stream.read(len(buffer))
        if self.size == 0:
            self._check_mark(block)
        if block.count(0) > _NUL_SHARE * len(block):
            raise _other_encoding(self._path, "UTF-16 without a mark, or not text at all", "UTF-16")
        self._follow_utf8(block)
        self.sha256.update(block)
        self.size += len(block)
        self.last_byte = block[-1:] or self.last_byte
        self._progress.at(self.size)
        buffer[: len(block)] = block
        return len(block)

    def _check_mark(self, block: bytes) -> None:
        for mark, name in _MARKS.items():
            if block.startswith(mark):
                raise _other_encoding(self._path, name, name)

    def _follow_utf8(self, block: bytes) -> None:
        if self.is_utf8:
            try:
                self._utf8.decode(block, final=not block)
            except UnicodeDecodeError:
                self.is_utf8 = False


class _Lines:
    """Lines of the file that remember those of the record being parsed."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self.record: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._text)
        self.record.append(line)
        return line

    def start_record(self) -> None:
        self.record = []


class _Tally:
    """Counts over the records, and the first and last of them."""

    def __init__(self, *, line_a_row: bool) -> None:
        self._line_a_row = line_a_row
        self.records = 0
        self.labels: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.beyond_ascii = 0
        self.first: list[str] = []
        self.first_rejected = ""
        self.last: list[str] = []
        self.last_lines: list[str] = []

    def add(self, fields: list[str], lines: list[str]) -> None:
        if self.records == 0:
            self.first = fields
        self.records += 1
        self.last, self.last_lines = fields, lines
        reason = rows.problem(fields)
        if reason is None and self._line_a_row and sum(not line.isspace() for line in lines) > 1:
            # It would learn from the beginning of the text alone.
            reason = rows.SEVERAL_LINES
        if reason is None:
            self.labels[fields[0].strip()] += 1
        else:
            self.rejected[reason] += 1
            if not self.first_rejected:
                self.first_rejected = f"row {self.records}: {''.join(lines).strip()[:80]!r}"
        if fields and not fields[-1].isascii() and not fields[-1].replace(_LOST_CHARACTER, "").isascii():
            self.beyond_ascii += 1

    def mostly_usable_but_for(self, forgiven: int) -> bool:
        return self.rejected.total() - forgiven <= MALFORMED_SHARE * self.records


def _check_encoding(path: Path, codec: str, watched: _Watched, tally: _Tally) -> None:
    utf8_expected = codec != "iso8859-1"
    if utf8_expected and not watched.is_utf8:
        raise SourceError(
            f"The file {path} is not UTF-8.",
            "Leave the encoding out: Sentiment140 is ISO-8859-1 (latin-1).",
        )
    beyond = tally.beyond_ascii
    surely = beyond >= _UTF8_ROWS_MANY or (beyond >= _UTF8_ROWS_FEW and beyond > _UTF8_SHARE * tally.records)
    marked = bool(tally.first) and tally.first[0].startswith(codecs.BOM_UTF8.decode("latin-1"))
    if not utf8_expected and watched.is_utf8 and (surely or marked):
        raise SourceError(
            f"The file {path} is UTF-8, but Sentiment140's ISO-8859-1 (latin-1) is expected.",
            "Say so with `--encoding utf-8`, or convert it: "
            f"`iconv -f UTF-8 -t ISO-8859-1//TRANSLIT {path.name} > latin1.csv`.",
        )


def _check_start(path: Path, tally: _Tally) -> None:
    if tally.records == 0:
        raise SourceError(f"The file {path} is empty.", "Download it again or name another file.")
    if _is_header(tally.first) and tally.mostly_usable_but_for(1):
        raise SourceError(
            f"The file {path} starts with a header line ({','.join(tally.first)[:80]}).",
            f"Remove it: `tail -n +2 {path.name} > without-header.csv`.",
        )


def _check_end(path: Path, watched: _Watched, tally: _Tally) -> None:
    """Refuse a file cut off in its last record; a complete last record needs no newline."""
    open_quote = "".join(tally.last_lines).count('"') % 2 == 1
    incomplete = rows.problem(tally.last) in (rows.WRONG_COLUMNS, rows.EMPTY_TEXT)
    cut = incomplete and watched.last_byte != b"\n" and tally.mostly_usable_but_for(1)
    if tally.labels and (open_quote or cut):
        raise SourceError(
            f"The file {path} is truncated: its last record is incomplete "
            f"({''.join(tally.last_lines).strip()[-60:]!r}).",
            "Copy or download it again.",
        )


def _check_rows(path: Path, tally: _Tally) -> None:
    if tally.mostly_usable_but_for(0):
        return
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in tally.rejected.most_common())
    [(main_reason, _)] = tally.rejected.most_common(1)
    what = "has other columns" if main_reason == rows.WRONG_COLUMNS else "has too many unusable rows"
    raise SourceError(
        f"The file {path} {what}: {tally.rejected.total():,} of {tally.records:,} cannot be used "
        f"({reasons}; first {tally.first_rejected}).",
        f"{rows.FORMAT[:-1]}, a row a line." if main_reason == rows.SEVERAL_LINES else rows.FORMAT,
    )


def _check_labels(path: Path, tally: _Tally, both_labels: bool) -> None:
    missing = [
        f"{name} ({value})"
        for name, value in (("negative", rows.NEGATIVE), ("positive", rows.POSITIVE))
        if not tally.labels[str(value)]
    ]
    if both_labels and missing:
        raise SourceError(
            f"The file {path} holds no row with the label {' or '.join(missing)}.",
            "A model needs both labels. Sentiment140 is sorted by label: take a random part of it, "
            f"not its first rows (`shuf -n 100000 {path.name} > part.csv`).",
        )


def _is_header(first: list[str]) -> bool:
    return len(first) > 1 and not any(any(character.isdigit() for character in name) for name in first[:2])


def _other_encoding(path: Path, found: str, iconv_name: str) -> SourceError:
    return SourceError(
        f"The file {path} has another encoding ({found}); ISO-8859-1 or UTF-8 is expected.",
        f"Convert it: `iconv -f {iconv_name} -t UTF-8 {path.name} > utf8.csv`, "
        "then use that with `--encoding utf-8`.",
    )
