"""The state of the stream as one dictionary, for ``status``, checks and live figures. Starts no JVM.

Works whatever is missing: no broker, no table, no heartbeat, nothing at all.
Does not belong here: showing it (``cli``), deciding about it (``supervisor``).
"""

import time
from typing import Any

from pyarrow import ArrowException

from sentiment_assets.failures import BrokerError, ModelError, TableError
from sentiment_assets.kafka.checkpointed import checkpointed_watermarks
from sentiment_assets.kafka.client import watermarks
from sentiment_assets.kafka.cluster import find_cluster
from sentiment_assets.models.store import ModelStore
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import row_count, table_exists, table_version
from sentiment_assets.streaming.audit import audit as audit_tables
from sentiment_assets.streaming.heartbeat import Heartbeat, Phase, read_heartbeat, read_standby
from sentiment_assets.streaming.pairing import read_pair
from sentiment_assets.streaming.positions import (
    Offsets,
    committed_offsets,
    first_offsets,
    lag_of,
    read_dead_letter_position,
)

_BROKER_SECONDS = 3.0
_STREAM_FIGURES = (
    "run_id",
    "pid",
    "heartbeat_age_seconds",
    "lease",
    "model_version",
    "scorer",
    "ready",
    "rows",
    "dead",
    "batches",
    "rows_per_second",
    "visible_latency_seconds",
)
_TABLE_FIGURES = (
    "predictions",
    "dead_letters",
    "pending",
    "gaps",
    "duplicates",
    "share_positive",
    "table_version",
)


def read_status(settings: Settings, *, audit: bool = True) -> dict[str, Any]:
    """What is known of broker, topic, stream, model and tables.

    Parameters
    ----------
    audit
        Read the offsets of every row to find gaps and duplicates, and the share of positive rows over all;
        without it those are ``None`` and the share is that of the running lease.

    Returns
    -------
    dict
        ``broker`` (``running``, ``silent``, ``not running``), ``broker_problem`` (what it said, or why
        nothing came, else ``None``), ``bootstrap``, ``topic``,
        ``partitions`` (each ``partition, low, high, committed, lag``; of a stopped embedded broker as it last noted
        them), ``lag`` (``None`` where the ends are unknown),
        ``predictions``, ``dead_letters``, ``pending`` (dead letters under way), ``gaps``, ``duplicates``,
        ``share_positive``, ``table_version``, ``table_problem`` (why the figures of the tables are unknown and
        therefore ``None``, else ``None``), ``stream`` (see :func:`describe_stream`), ``standby`` (``run_id``, ``pid``
        and ``state`` of a run that waits to take over, else ``None``), ``model`` and ``model_problem`` (why the chosen
        model is unknown, else ``None``).
    """
    # Positions before tables: a table may be ahead of the position read, never behind it.
    pair = read_pair(settings)
    complete = read_dead_letter_position(settings, pair.pair_id) if pair else None
    committed = committed_offsets(settings)
    heartbeat = read_heartbeat(settings)
    status = _topic(settings, committed)
    try:
        tables = _tables(settings, heartbeat, complete or {}, committed, audit=audit) | {
            "table_problem": None
        }
    except (TableError, OSError, ArrowException) as error:
        tables = dict.fromkeys(_TABLE_FIGURES) | {"table_problem": str(error)}
    return (
        status
        | tables
        | {"stream": describe_stream(heartbeat), "standby": _standby(settings)}
        | _chosen(settings)
    )


def _tables(
    settings: Settings, heartbeat: Heartbeat | None, complete: Offsets, committed: Offsets, *, audit: bool
) -> dict[str, Any]:
    table = settings.table(PREDICTIONS.name)
    version = table_version(table) if table_exists(table) else None
    if audit:
        first = first_offsets(settings)
        found = audit_tables(settings, first=first, complete=complete, committed=committed)
        figures: dict[str, Any] = {
            "predictions": found.predictions,
            "dead_letters": found.dead_letters,
            "pending": found.pending,
            "gaps": found.gaps,
            "duplicates": found.duplicates,
            "share_positive": round(found.positive / found.predictions, 4) if found.predictions else None,
        }
    else:
        share = heartbeat.positives / heartbeat.rows if heartbeat and heartbeat.rows else None
        figures = {
            "predictions": _rows(settings, PREDICTIONS.name),
            "dead_letters": _rows(settings, DEAD_LETTERS.name),
            "pending": None,
            "gaps": None,
            "duplicates": None,
            "share_positive": None if share is None else round(share, 4),
        }
    return figures | {"table_version": version}


def _standby(settings: Settings) -> dict[str, Any] | None:
    waiting = read_standby(settings)
    if waiting is None or not waiting.running:
        return None
    return {"run_id": waiting.run_id, "pid": waiting.pid, "state": str(waiting.phase)}


def describe_stream(heartbeat: Heartbeat | None) -> dict[str, Any]:
    """The stream by its last heartbeat.

    Returns
    -------
    dict
        ``state`` (a phase, ``gone`` when its process ended without a word, ``never started``), ``detail`` (why it
        stopped or what it was before it was gone, else ``None``), ``run_id, pid, heartbeat_age_seconds, lease,
        model_version, scorer, ready, rows, dead, batches, rows_per_second, visible_latency_seconds``.
    """
    if heartbeat is None:
        return {"state": "never started", "detail": None} | dict.fromkeys(_STREAM_FIGURES)
    figures = {name: getattr(heartbeat, name) for name in _STREAM_FIGURES if hasattr(heartbeat, name)}
    gone = heartbeat.phase is not Phase.STOPPED and heartbeat.alive is False
    return {
        "state": "gone" if gone else str(heartbeat.phase),
        "detail": f"was {heartbeat.state}" if gone else heartbeat.detail or None,
        **figures,
        "ready": heartbeat.ready and not gone,
        "heartbeat_age_seconds": round(max(0.0, time.time() - heartbeat.at), 1),
    }


def _topic(settings: Settings, committed: Offsets) -> dict[str, Any]:
    cluster = find_cluster(settings)
    ends: dict[int, tuple[int, int]] = {}
    broker, problem = "not running", None
    if cluster is not None:
        try:
            ends = watermarks(cluster, settings.topic, timeout=_BROKER_SECONDS)
            broker = "running"
        except BrokerError as error:
            broker, problem = "silent", str(error)
    else:
        ends = checkpointed_watermarks(settings)
    partitions = [
        {
            "partition": partition,
            "low": low,
            "high": high,
            "committed": committed.get(partition),
            "lag": lag_of(low, high, committed.get(partition)),
        }
        for partition, (low, high) in sorted(ends.items())
    ]
    return {
        "broker": broker,
        "broker_problem": problem,
        "bootstrap": None if cluster is None else cluster.bootstrap,
        "topic": settings.topic,
        "partitions": partitions,
        "lag": sum(part["lag"] or 0 for part in partitions) if partitions else None,
    }


def _rows(settings: Settings, name: str) -> int:
    table = settings.table(name)
    return row_count(table) if table_exists(table) else 0


def _chosen(settings: Settings) -> dict[str, str | None]:
    try:
        return {"model": ModelStore(settings.models).chosen(), "model_problem": None}
    except ModelError as error:
        return {"model": None, "model_problem": str(error)}
