"""How long after Kafka's timestamp a prediction became visible in the Delta table. Plain files, no JVM."""

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiment_assets.failures import TableError


@dataclass(frozen=True)
class VisibleLatency:
    """Percentiles of the visible latency in seconds, over ``rows`` predictions."""

    rows: int
    p50: float
    p95: float
    p99: float
    max: float


def visible_latency(table: Path, *, skip_seconds: float = 40.0) -> VisibleLatency:
    """Measure the visible latency of every row: modification time of its commit minus its Kafka timestamp.

    Parameters
    ----------
    table
        Folder of the Delta table ``predictions`` on a local disk.
    skip_seconds
        Rows whose message is not older than this after the first one are left out: the JVM warms up.

    Raises
    ------
    TableError
        When no row is left to measure.
    """
    visible: list[np.ndarray] = []
    sent: list[np.ndarray] = []
    for commit in sorted((table / "_delta_log").glob("*.json")):
        committed = commit.stat().st_mtime
        for line in commit.read_text(encoding="utf-8").splitlines():
            added = json.loads(line).get("add")
            # OPTIMIZE rewrites rows that were visible long before.
            if not added or not added.get("dataChange"):
                continue
            column = pq.read_table(table / unquote(added["path"]), columns=["kafka_timestamp"]).column(0)
            micros = column.cast(pa.timestamp("us", "UTC")).cast("int64").to_numpy()
            sent.append(micros / 1e6)
            visible.append(np.full(len(micros), committed))
    sent_at = np.concatenate(sent) if sent else np.empty(0)
    kept = sent_at > sent_at.min() + skip_seconds if len(sent_at) else np.empty(0, dtype=bool)
    if not kept.any():
        raise TableError(
            f"{table} has no prediction of a message later than {skip_seconds:.0f} s after the first.",
            "Let the stream run for longer.",
        )
    latency = (np.concatenate(visible) - sent_at)[kept]
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(latency, [50, 95, 99]))
    return VisibleLatency(int(kept.sum()), p50, p95, p99, round(float(latency.max()), 3))
