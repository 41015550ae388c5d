"""The newest file of the checkpoint, when a crash or a disk left it damaged, written anew from what the table knows.

Spark plans a batch in ``offsets/N`` and records its end in ``commits/N``; a power cut may leave the newest of either
cut off or full of zeros, and Spark then refuses to start. Both can be derived:

* A commit holds the same text as the one before (there is no watermark here).
* Where batch N ended follows from the table: what is in it was scored, what is not was not. So the plan ends, in each
  partition, behind the highest scored offset. If the table has the batch already the sink skips it; messages behind
  the highest scored one, dead letters at most, are read again by the next batch, and the dead letters know what they
  have.

Only the newest file is mended, and only when the one before is whole; anything else is for a person.
"""

import json
import logging
import struct
import zlib
from pathlib import Path

from sentiment_assets.runtime.files import replace_file
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings, is_local
from sentiment_assets.spark.delta import open_existing, table_exists
from sentiment_assets.streaming.audit import highest_offsets
from sentiment_assets.streaming.positions import checkpoint, planned_offsets

log = logging.getLogger(__name__)

_CHECKSUM = struct.Struct(">4sI")
"""Hadoop's checksum file: ``crc\\0``, bytes per checksum, then a CRC-32 for each stretch."""


def mend_checkpoint(settings: Settings) -> list[str]:
    """Write a damaged newest plan or commit anew; only the holder of the stream's lock may call it.

    Returns
    -------
    list of str
        Files that were mended, as ``offsets/17``.
    """
    folder = checkpoint(settings)
    mended: list[str] = []
    if not is_local(folder):
        return mended  # an object appears whole or not at all
    for name, content in (("offsets", _plan), ("commits", _same)):
        newest, before = _newest_two(folder / name)
        if newest is None or before is None or _is_whole(newest) or not _is_whole(before):
            continue
        text = content(settings, before)
        if text is None:
            continue
        log.warning("The checkpoint's newest file %s was damaged and is written anew.", newest)
        _checksum(newest).unlink(missing_ok=True)
        replace_file(newest, text)
        mended.append(f"{name}/{newest.name}")
    return mended


def _same(_settings: Settings, before: Path) -> str:
    return before.read_text(encoding="utf-8")


def _plan(settings: Settings, before: Path) -> str | None:
    """The plan before with its last line, the end of each partition, moved to what the table has."""
    offsets = planned_offsets(checkpoint(settings), int(before.name), settings.topic)
    table = settings.table(PREDICTIONS.name)
    if offsets is None or not table_exists(table) or not open_existing(table).file_uris():
        return None
    for partition, highest in highest_offsets(settings).items():
        offsets[partition] = max(offsets.get(partition, 0), highest + 1)
    lines = before.read_text(encoding="utf-8").splitlines()
    ends = {settings.topic: {str(partition): end for partition, end in sorted(offsets.items())}}
    return "\n".join([*lines[:-1], json.dumps(ends, separators=(",", ":"))])


def _newest_two(folder: Path) -> tuple[Path | None, Path | None]:
    if not folder.is_dir():
        return None, None
    files = sorted((f for f in folder.iterdir() if f.name.isdigit()), key=lambda f: int(f.name))[-2:]
    return (files[-1] if files else None), (files[0] if len(files) == 2 else None)


def _is_whole(file: Path) -> bool:
    """Whether Spark will read the file: its version line, JSON behind it, and Hadoop's checksum."""
    try:
        content = file.read_bytes()
        lines = content.decode().splitlines()
        readable = (
            len(lines) > 1 and lines[0] == "v1" and all(json.loads(line) is not None for line in lines[1:])
        )
        if file.parent.name == "offsets":
            readable = readable and len(lines) > 2
    except (OSError, ValueError):
        return False
    return readable and _checksum_holds(file, content)


def _checksum_holds(file: Path, content: bytes) -> bool:
    try:
        sums = _checksum(file).read_bytes()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if len(sums) < _CHECKSUM.size:
        return False
    magic, size = _CHECKSUM.unpack_from(sums)
    if magic != b"crc\0" or not size:
        return False
    found = [zlib.crc32(content[at : at + size]) for at in range(0, len(content), size)]
    return sums[_CHECKSUM.size :] == struct.pack(f">{len(found)}I", *found)


def _checksum(file: Path) -> Path:
    return file.with_name(f".{file.name}.crc")
