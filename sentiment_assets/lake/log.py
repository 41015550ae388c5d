"""The log of a table that gets several commits a second, kept short. Starts no JVM.

Delta lists the whole folder of the log before each commit, 12 us an entry: 0.24 s at 20,000 commits, which is three
hours of a stream (measured), and its own clean-up begins only after days. So commits before an old enough checkpoint
are moved into an archive beside the log, where those who follow the table still find what they added and removed. The
versions that somebody may want to read again are pinned: each keeps a checkpoint of its own, all that reading it takes.
Belongs here: which entries the log has, checkpoints too. Does not belong here: when it is trimmed (``streaming.care``).
"""

import gzip
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sentiment_assets.lake.opening import open_table
from sentiment_assets.settings import is_local

KEEP_COMMITS = 1_000
"""Commits that stay at least: 12 ms of listing, and what a reader that has just opened the table may still need."""
DAYS = 7
"""How long pinned versions and archived commits stay: as long as VACUUM leaves the data files."""

CHECKPOINT_COMMITS = 100
"""Commits between checkpoints: a minute of a busy stream."""
LEAST_COMMITS = 500
"""Fewer are not worth a file of their own in the archive: it has one for some minutes of a stream."""
_MOST_COMMITS = 20_000
"""Commits that are moved at once: a few seconds, also where a log was never trimmed before."""

_ARCHIVE, _PIN = "_log_archive", ".pin"
_DAY_SECONDS = 86_400
# ``<version>.json``, ``<version>.checkpoint.parquet`` (one part or several), their checksums, Delta's and Hadoop's.
_ENTRY = re.compile(r"\.?(\d{20})\.(json|crc|checkpoint\.(?:\d+\.\d+\.)?parquet)(?:\.crc)?")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_BLOCK = re.compile(r"(\d{20})-(\d{20})\.jsonl\.gz")


def trim(path: Path, *, keep: int = KEEP_COMMITS, least: int = LEAST_COMMITS) -> int:
    """Move commits out of the log that lie before a checkpoint which is at least ``keep`` commits old.

    A kill at any point leaves a log that can be read, and loses nothing from the archive.

    Parameters
    ----------
    path
        A table of this machine; only who may write it may call this.
    least
        Do nothing for fewer commits.

    Returns
    -------
    int
        Commits that were moved.

    Raises
    ------
    OSError
        When the disk is full or a file cannot be removed.
    """
    _forget_old(path)
    log = path / "_delta_log"
    names = [entry.name for entry in os.scandir(log)]
    commits = sorted(int(name[:20]) for name in names if re.fullmatch(r"\d{20}\.json", name))
    base = max((one for one in _checkpoints(names) if commits and one <= commits[-1] - keep), default=0)
    pinned = _pins(path)
    old = [version for version in commits if version < base and version not in pinned]
    if len(old) < least:
        return 0
    if len(old) > _MOST_COMMITS:
        base = old[_MOST_COMMITS]
        old = old[:_MOST_COMMITS]
    _archive(path, old)
    for name in sorted(names):
        match = _ENTRY.fullmatch(name)
        if match and int(match[1]) < base and int(match[1]) not in pinned:
            (log / name).unlink(missing_ok=True)
    return len(old)


def checkpoint(path: Path, *, every: int = CHECKPOINT_COMMITS) -> bool:
    """Write a checkpoint when the newest is so many commits old.

    Delta would do it itself within a commit of the stream, which has to wait: 4 s when its JVM does it for the first
    time. This takes a tenth of a second, beside the stream.

    Returns
    -------
    bool
        Whether one was written.

    Raises
    ------
    DeltaError, OSError
        When the log cannot be read, or the disk is full.
    """
    newest = max(_checkpoints(entry.name for entry in os.scandir(path / "_delta_log")), default=0)
    table = open_table(path)
    if table.version() - newest < every:
        return False
    table.create_checkpoint()
    return True


def pin(path: Path, version: int) -> None:
    """Keep a version readable for a week, whatever is trimmed.

    Raises
    ------
    DeltaError, OSError
        When the version cannot be read, or the disk is full.
    """
    if not is_local(path):
        return
    if not (path / "_delta_log" / f"{version:020}.checkpoint.parquet").exists():
        open_table(path, version).create_checkpoint()
    folder = path / _ARCHIVE
    folder.mkdir(exist_ok=True)
    # A file each: a command and the stream may pin at the same moment.
    (folder / f"{version:020}{_PIN}").touch()


class Archive:
    """Commits of a table that were trimmed in the last week, for who reads them one after the other.

    Parameters
    ----------
    path
        The table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks: list[tuple[Path, int, int]] = []
        self._read: tuple[Path | None, dict[int, list[dict[str, Any]]]] = (None, {})

    def actions(self, version: int) -> list[dict[str, Any]] | None:
        """What a commit did; None when the archive does not have it."""
        for again in (False, True):
            if again:
                self._blocks = list(_blocks(self._path))
            for block, first, last in self._blocks:
                if first <= version <= last and (found := self._of(block).get(version)) is not None:
                    return found
        return None

    def _of(self, block: Path) -> dict[int, list[dict[str, Any]]]:
        if self._read[0] != block:
            try:
                with gzip.open(block, "rb") as lines:
                    parts = (line.partition(b"\t") for line in lines)
                    self._read = block, {int(number): json.loads(content) for number, _, content in parts}
            except FileNotFoundError:
                # Its week has ended since it was listed.
                return {}
        return self._read[1]


def removals(path: Path) -> Iterator[dict[str, Any]]:
    """What each ``remove`` action says, of the commits in the archive and in the log."""
    for block, _, _ in _blocks(path):
        with gzip.open(block, "rb") as lines:
            for line in lines:
                # Most commits only add, and reading JSON is what takes the time.
                if b'"remove"' in line:
                    yield from _removed(json.loads(line.partition(b"\t")[2]))
    for file in (path / "_delta_log").glob("*.json"):
        content = file.read_bytes()
        if b'"remove"' in content:
            yield from _removed([json.loads(line) for line in content.split(b"\n") if line])


def _removed(actions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (action["remove"] for action in actions if "remove" in action)


def _checkpoints(names: Iterable[str]) -> Iterator[int]:
    return (int(match[1]) for name in names if (match := _CHECKPOINT.fullmatch(name)))


def _pins(path: Path) -> set[int]:
    return {int(file.stem) for file in (path / _ARCHIVE).glob(f"*{_PIN}")}


def _archive(path: Path, versions: list[int]) -> None:
    folder = path / _ARCHIVE
    folder.mkdir(exist_ok=True)
    block = folder / f"{versions[0]:020}-{versions[-1]:020}.jsonl.gz"
    partial = folder / f".{block.name}"
    with gzip.open(partial, "wb", compresslevel=6) as out:
        for version in versions:
            lines = (path / "_delta_log" / f"{version:020}.json").read_bytes().split(b"\n")
            actions = [json.loads(line) for line in lines if line]
            out.write(f"{version}\t{json.dumps(actions)}\n".encode())
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(block)


def _blocks(path: Path) -> Iterator[tuple[Path, int, int]]:
    for block in sorted((path / _ARCHIVE).glob("*.jsonl.gz")):
        if match := _BLOCK.fullmatch(block.name):
            yield block, int(match[1]), int(match[2])


def _forget_old(path: Path) -> None:
    """Blocks and pins last a week."""
    for pattern in ("*.jsonl.gz", f"*{_PIN}"):
        for file in (path / _ARCHIVE).glob(pattern):
            if time.time() - file.stat().st_mtime > DAYS * _DAY_SECONDS:
                file.unlink(missing_ok=True)
