"""How far the stream is, read from files without a JVM.

Structured Streaming plans a batch in ``offsets/N`` and records its end in ``commits/N``; the position of the
predictions is where the newest batch with both ends. The dead letters have a position file of our own.
Does not belong here: which table the checkpoint belongs to (``pairing``).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sentiment_assets.failures import StreamError
from sentiment_assets.runtime.files import replace_file
from sentiment_assets.settings import Settings

Offsets = dict[int, int]
"""Kafka partition -> next offset to read."""


@dataclass(frozen=True)
class Position:
    """Where a checkpoint stands.

    Parameters
    ----------
    batch
        Number of the newest committed micro-batch; ``None`` before the first.
    offsets
        Next offset by partition; messages below are scored or dead letters.
    """

    batch: int | None = None
    offsets: Offsets = field(default_factory=dict)


def checkpoint(settings: Settings) -> Path:
    """The checkpoint of the predictions query."""
    return settings.checkpoints / "predictions"


def committed_offsets(settings: Settings) -> Offsets:
    """Next offset to score by partition; empty before the first batch."""
    return committed_position(settings).offsets


def committed_position(settings: Settings) -> Position:
    """The newest batch whose plan and commit are both readable."""
    folder = checkpoint(settings)
    for batch in _batches(folder / "commits"):
        offsets = planned_offsets(folder, batch, settings.topic)
        if offsets is not None:
            return Position(batch, offsets)
    return Position()


def has_batches(settings: Settings) -> bool:
    """Whether the checkpoint has planned at least one batch, committed or not."""
    return next(_batches(checkpoint(settings) / "offsets"), None) is not None


def planned_offsets(folder: Path, batch: int, topic: str) -> Offsets | None:
    """Where a batch ends by its plan; ``None`` when the file is missing, damaged or of another topic."""
    try:
        lines = (folder / "offsets" / str(batch)).read_text(encoding="utf-8").splitlines()
        return parse_offsets(lines[-1], topic)
    except (OSError, ValueError, IndexError, TypeError, AttributeError, KeyError):
        return None


@dataclass(frozen=True)
class Planned:
    """The plan of a micro-batch: where it begins and ends in each partition."""

    number: int
    start: Offsets
    end: Offsets


def newest_plan(settings: Settings) -> Planned | None:
    """The newest batch that was planned, whether its end is recorded or not; ``None`` before the first.

    Raises
    ------
    StreamError
        When it, or the plan before it, cannot be read.
    """
    folder = checkpoint(settings)
    number = next(_batches(folder / "offsets"), None)
    if number is None:
        return None
    end = planned_offsets(folder, number, settings.topic)
    start = planned_offsets(folder, number - 1, settings.topic) if number else first_offsets(settings)
    if start is None or end is None:
        raise StreamError(
            f"The checkpoint of the stream is damaged (the plan of batch {number} or the one before cannot be read).",
            "Restore SENTIMENT_HOME/checkpoints and lake from one backup, or run `sentiment-assets reset --stream`.",
        )
    return Planned(number, start, end)


def first_offsets(settings: Settings) -> Offsets:
    """Where the stream began to read each partition; empty before the first batch.

    Spark writes it once, behind a zero byte: a partition that was added later is read from 0.
    """
    try:
        lines = (checkpoint(settings) / "sources" / "0" / "0").read_text(encoding="utf-8").splitlines()
        return parse_offsets(lines[-1], settings.topic)
    except (OSError, ValueError, IndexError, TypeError, AttributeError, KeyError):
        return {}


def read_dead_letter_position(settings: Settings, pair_id: str) -> Offsets | None:
    """Up to where the dead letters of this pair are complete; ``None`` when nothing readable says so."""
    found = _read_dead_letter_file(settings)
    return found[1] if found is not None and found[0] == pair_id else None


def dead_letters_are_behind(settings: Settings) -> bool:
    """Whether messages were committed past whose dead letters may not be written yet."""
    committed, found = committed_offsets(settings), _read_dead_letter_file(settings)
    complete = first_offsets(settings) if found is None else found[1]
    return any(end > complete.get(partition, 0) for partition, end in committed.items())


def _read_dead_letter_file(settings: Settings) -> tuple[str, Offsets] | None:
    try:
        content = json.loads(_dead_letter_file(settings).read_text(encoding="utf-8"))
        offsets = {int(partition): int(offset) for partition, offset in content["offsets"].items()}
        return str(content["pair_id"]), offsets
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_dead_letter_position(settings: Settings, pair_id: str, offsets: Offsets) -> None:
    """Record up to where the dead letters are complete.

    Raises
    ------
    OSError
        When the disk is full.
    """
    file = _dead_letter_file(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, json.dumps({"pair_id": pair_id, "offsets": offsets}))


def parse_offsets(text: str, topic: str) -> Offsets:
    """Read Spark's form of Kafka offsets, ``{"topic": {"0": 12}}``.

    Raises
    ------
    ValueError, KeyError
        When the text has another form or names another topic only.
    """
    return {int(partition): int(offset) for partition, offset in json.loads(text)[topic].items()}


def _dead_letter_file(settings: Settings) -> Path:
    return settings.checkpoints / "dead_letters" / "position.json"


def _batches(folder: Path) -> Iterator[int]:
    """Batch numbers in a log folder, newest first."""
    if folder.is_dir():
        yield from sorted((int(file.name) for file in folder.iterdir() if file.name.isdigit()), reverse=True)


def lag_of(low: int, high: int, committed: int | None) -> int:
    """Messages of a partition that are not scored yet.

    A topic that ends before the position is another one, or has lost messages: then all of it counts, and one at least,
    so that a stream is started and says so, instead of nothing being said at all.

    Parameters
    ----------
    low, high
        First and next offset of the partition.
    committed
        Next offset to score; None: none was scored.
    """
    position = low if committed is None else committed
    return max(1, high - low) if position > high else high - max(low, position)
