"""Which offsets each data file of a table holds, remembered: a file of Delta never changes, so it is read once.

The audit after each lease and of ``status`` reads what came since the last one, however large the table has become.
Does not belong here: what follows from it (``audit``).
"""

import contextlib
import logging
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from sentiment_assets.settings import Settings, is_local
from sentiment_assets.spark.delta import open_existing, table_exists

log = logging.getLogger(__name__)

Array = NDArray[np.int64]
_ALL = -1
"""In place of a partition: all rows of a file, those of other topics too."""


@dataclass
class Contents:
    """What a table holds.

    Attributes
    ----------
    rows, positive
        All rows, and those whose sentiment is positive.
    rows_of
        Rows of the topic by partition.
    runs
        Partition -> begin and end (the next offset) of runs of its offsets, a line each; they may overlap.
    """

    rows: int = 0
    positive: int = 0
    rows_of: dict[int, int] = field(default_factory=dict)
    runs: dict[int, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class _Known:
    """Files by number, with lines (file, partition, begin, end) and (file, partition, rows, positive)."""

    files: list[str]
    runs: Array
    counts: Array


_NONE = np.empty((0, 4), np.int64)


def read_contents(settings: Settings, name: str) -> Contents:
    """What a table holds now; reads the files that were not read before, for the others it remembers."""
    path = settings.table(name)
    if not table_exists(path):
        return Contents()
    table = open_existing(path)
    files = sorted(table.get_add_actions(flatten=True)["path"].to_pylist())
    if is_local(path):
        memory = settings.run / f"audited-{name}.npz"
        kept = _only(_remembered(memory, settings.topic), files)
        missing = sorted(set(files) - set(kept.files))
        # Delta's own pyarrow reader first turns the statistics of every file into a filter: twice the time.
        compact = ds.ParquetFileFormat(dictionary_columns={"topic", "sentiment"})
        places = {
            str((path / file).absolute()): number for number, file in enumerate(missing, len(kept.files))
        }
        dataset = ds.dataset(list(places), format=compact) if missing else None
        known = _with(kept, missing, dataset, places, settings.topic)
        if missing:
            _remember(memory, settings.topic, known)
    else:
        dataset = table.to_pyarrow_dataset()
        known = _with(_Known([], _NONE, _NONE), [""], dataset, {}, settings.topic)
    return _summed(known)


def _with(
    kept: _Known,
    missing: list[str],
    dataset: ds.Dataset | None,
    places: dict[str, int],
    topic: str,
) -> _Known:
    """What is known, and what a dataset of missing files holds; ``places``: their numbers by path, where known."""
    if dataset is None:
        return kept
    runs, counts = [kept.runs], [kept.counts]
    columns = [name for name in ("topic", "partition", "offset", "sentiment") if name in dataset.schema.names]
    scanned = dataset.scanner(columns=columns).scan_batches()
    for tagged in scanned:
        rows = tagged.record_batch
        number = places[tagged.fragment.path] if places else 0
        positive = (
            pc.sum(pc.equal(rows["sentiment"], "positive")).as_py() or 0 if "sentiment" in columns else 0
        )
        counts.append(np.array([[number, _ALL, rows.num_rows, positive]], np.int64))
        for partition, offsets in _by_partition(rows, topic):
            counts.append(np.array([[number, partition, len(offsets), 0]], np.int64))
            found = _runs(offsets)
            runs.append(np.column_stack([np.full((len(found), 2), (number, partition), np.int64), found]))
    return _Known([*kept.files, *missing], np.concatenate(runs), np.concatenate(counts))


def _by_partition(rows: pa.RecordBatch, topic: str) -> Iterator[tuple[int, Array]]:
    """Offsets of the topic in a batch, by partition; none that is empty."""
    ours = rows.filter(pc.equal(rows["topic"], topic))
    partitions, offsets = ours["partition"].to_numpy(), ours["offset"].to_numpy()
    for partition in np.unique(partitions):
        yield int(partition), offsets[partitions == partition]


def _runs(offsets: Array) -> Array:
    """Begin and end of the runs of these offsets, which is at least one."""
    distinct = np.unique(offsets)
    breaks = np.flatnonzero(np.diff(distinct) != 1)
    begins = distinct[np.concatenate([[0], breaks + 1])]
    ends = distinct[np.concatenate([breaks, [len(distinct) - 1]])] + 1
    return np.column_stack([begins, ends])


def _only(known: _Known, files: list[str]) -> _Known:
    """What is known of files that the table still has."""
    there = set(files)
    numbers = np.full(len(known.files), -1, np.int64)
    kept = [place for place, file in enumerate(known.files) if file in there]
    numbers[kept] = np.arange(len(kept))

    def renumbered(lines: Array) -> Array:
        lines = lines.copy()
        lines[:, 0] = numbers[lines[:, 0]]
        return lines[lines[:, 0] >= 0]

    return _Known([known.files[place] for place in kept], renumbered(known.runs), renumbered(known.counts))


def _summed(known: _Known) -> Contents:
    found = Contents()
    everything = known.counts[known.counts[:, 1] == _ALL]
    found.rows, found.positive = int(everything[:, 2].sum()), int(everything[:, 3].sum())
    for partition in np.unique(known.counts[known.counts[:, 1] != _ALL][:, 1]):
        found.rows_of[int(partition)] = int(known.counts[known.counts[:, 1] == partition][:, 2].sum())
        found.runs[int(partition)] = known.runs[known.runs[:, 1] == partition][:, 2:]
    return found


def _remembered(memory: Path, topic: str) -> _Known:
    """What an earlier call noted; nothing where that cannot be read, or is of another topic."""
    try:
        with np.load(memory, allow_pickle=False) as noted:
            known = _Known(noted["files"].tolist(), noted["runs"], noted["counts"])
            if str(noted["topic"]) != topic or known.runs.shape[1:] != (4,) or known.counts.shape[1:] != (4,):
                raise ValueError(memory)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return _Known([], _NONE, _NONE)
    return known


def _remember(memory: Path, topic: str, known: _Known) -> None:
    """A disk that is full costs the next call the time to read again."""
    partial = memory.with_name(f".{memory.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            np.savez(file, topic=np.array(topic), files=np.array(known.files, dtype=np.str_),
                     runs=known.runs, counts=known.counts)  # fmt: skip
        partial.replace(memory)
    except OSError as error:
        log.warning("What was read of the tables is not remembered (%s).", error.strerror)
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
