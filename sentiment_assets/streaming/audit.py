"""Is each offset exactly one prediction or one dead letter? Counted from the tables themselves, without a JVM.

Does not belong here: how far the stream says it is (``positions``).
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import open_existing, table_exists
from sentiment_assets.streaming.audited import Array, read_contents
from sentiment_assets.streaming.positions import Offsets

_NO_END = 2**63 - 1


@dataclass(frozen=True)
class Audit:
    """What became of the offsets that the stream has passed.

    Parameters
    ----------
    gaps
        Offsets that are neither a prediction nor a dead letter.
    duplicates
        Rows beyond the first of an offset, both tables together.
    pending
        Offsets without a prediction whose dead letter may still be under way.
    positive
        Positive predictions.
    """

    predictions: int
    dead_letters: int
    gaps: int
    duplicates: int
    pending: int
    positive: int


def audit(settings: Settings, *, first: Offsets, complete: Offsets, committed: Offsets) -> Audit:
    """Count the offsets in both tables, from the files that were not read before.

    Parameters
    ----------
    first
        Where the stream began to read each partition; missing ones at 0.
    complete
        Up to where the dead letters are complete.
    committed
        Next offset to score. Must have been read before this call, since the tables move on meanwhile.
    """
    scored = read_contents(settings, PREDICTIONS.name)
    dead = read_contents(settings, DEAD_LETTERS.name)
    gaps = duplicates = pending = 0
    for partition in committed.keys() | scored.rows_of.keys() | dead.rows_of.keys():
        tables = [table for table in (scored, dead) if partition in table.rows_of]
        seen = _Seen([table.runs[partition] for table in tables])
        duplicates += sum(table.rows_of[partition] for table in tables) - seen.distinct
        begin, end = first.get(partition, 0), committed.get(partition, 0)
        settled = min(max(begin, complete.get(partition, begin)), max(begin, end))
        gaps += seen.missing(begin, settled)
        pending += seen.missing(settled, end)
    # Rows of other topics, a backfill's, count as rows.
    return Audit(scored.rows, dead.rows, gaps, duplicates, pending, scored.positive)


class _Seen:
    """Which offsets of a partition have a row: runs that do not touch, in order."""

    def __init__(self, runs: Sequence[Array]) -> None:
        every = np.concatenate([np.empty((0, 2), np.int64), *runs])
        every = every[np.argsort(every[:, 0], kind="stable")]
        ends = np.maximum.accumulate(every[:, 1]) if len(every) else every[:, 1]
        opens = np.concatenate([np.ones(min(1, len(every)), bool), every[1:, 0] > ends[:-1]])
        self._begins = every[opens, 0]
        self._ends = ends[np.concatenate([opens[1:], np.ones(min(1, len(every)), bool)])]

    @property
    def distinct(self) -> int:
        """Offsets with a row."""
        return int((self._ends - self._begins).sum())

    def missing(self, begin: int, end: int) -> int:
        """How many of ``[begin, end)`` have no row."""
        if end <= begin:
            return 0
        there = np.minimum(self._ends, end) - np.maximum(self._begins, begin)
        return end - begin - int(there[there > 0].sum())


def highest_offsets(settings: Settings) -> dict[int, int]:
    """Highest scored offset of each partition of the topic that has one."""
    found = read_contents(settings, PREDICTIONS.name)
    return {partition: int(runs[:, 1].max()) - 1 for partition, runs in found.runs.items()}


def has_rows(settings: Settings, start: Offsets, end: Offsets | None = None) -> bool:
    """Whether the topic has a prediction between these offsets; the files' statistics say where to look.

    Parameters
    ----------
    start, end
        First and next offset by partition; a partition without a first one begins at 0. Without ``end``: from the
        first offsets on.
    """
    if end is None:
        end = dict.fromkeys(start, _NO_END)
    ranges = {part: (start.get(part, 0), until) for part, until in end.items() if until > start.get(part, 0)}
    table = settings.table(PREDICTIONS.name)
    if not ranges or not table_exists(table):
        return False
    actions = pa.table(open_existing(table).get_add_actions(flatten=True))
    # These two alone: Python cannot hold each time among the others.
    files = actions.select(
        [name for name in ("path", "max.offset") if name in actions.column_names]
    ).to_pylist()
    lowest = min(begin for begin, _ in ranges.values())
    paths = [
        str(table / file["path"])
        for file in files
        if (most := file.get("max.offset")) is None or most >= lowest
    ]
    if not paths:
        return False
    within = reduce(
        operator.or_,
        (
            (pc.field("partition") == part) & (pc.field("offset") >= begin) & (pc.field("offset") < until)
            for part, (begin, until) in ranges.items()
        ),
    )
    return bool(ds.dataset(paths).count_rows(filter=(pc.field("topic") == settings.topic) & within))
