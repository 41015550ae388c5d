"""Visible latency: how long after Kafka's timestamp a row could be read from the table. Plain files, no JVM.

A row is visible from the modification time of the Delta commit that added its file, the same definition as the
benchmark of the published consumer; of a commit that was trimmed into the archive, from the time that it states.
Does not belong here: the live estimate of a running stream (``progress``).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sentiment_assets.lake.log import Archive

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VisibleLatency:
    """Percentiles over rows, in seconds; ``None`` when no row is left to measure."""

    rows: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


def visible_latency(
    table: Path, *, column: str = "kafka_timestamp", skip_seconds: float = 0.0, since: float = 0.0
) -> VisibleLatency:
    """Measure every row of a table, as appended.

    Parameters
    ----------
    column
        When the message was sent.
    skip_seconds
        Rows sent so soon after the first one are left out: the JVM was cold.
    since
        Only commits that became visible after this time, in seconds since the epoch.
    """
    chunks = list(_appended(table, column, since))
    if not chunks:
        return VisibleLatency(0)
    sent = np.concatenate([times for times, _ in chunks])
    visible = np.concatenate([np.full(len(times), committed) for times, committed in chunks])
    latency = (visible - sent)[sent >= sent.min() + skip_seconds]
    if not len(latency):
        return VisibleLatency(0)
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(latency, [50, 95, 99]))
    return VisibleLatency(len(latency), p50, p95, p99, round(float(latency.max()), 3))


def _appended(table: Path, column: str, since: float) -> Iterator[tuple[Array, float]]:
    """Times of sending of each appended file, and when its commit became visible; seconds since the epoch."""
    for committed, actions in _commits(table, since):
        # A rescore or a backfill says nothing about how soon a message became visible.
        if any("userMetadata" in (action.get("commitInfo") or {}) for action in actions):
            continue
        for action in actions:
            added = action.get("add")
            if added and added["dataChange"]:
                times = pq.read_table(table / unquote(added["path"]), columns=[column])[column]
                yield times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy() / 1e6, committed


def _commits(table: Path, since: float) -> Iterator[tuple[float, list[dict[str, Any]]]]:
    """When each commit after ``since`` became visible, and what it did; the oldest first."""
    logs = [(file.stat().st_mtime, file) for file in sorted((table / "_delta_log").glob("*.json"))]
    if logs and logs[0][0] > since:
        archive = Archive(table)
        for version in range(int(logs[0][1].stem)):
            actions = archive.actions(version) or []
            for stated in (
                action["commitInfo"]["timestamp"] / 1000 for action in actions if "commitInfo" in action
            ):
                if stated > since:
                    yield stated, actions
    for visible, file in logs:
        if visible > since:
            yield visible, [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
