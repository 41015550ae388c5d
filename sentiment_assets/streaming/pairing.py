"""Checkpoint, table and topic are one: each knows the others, and a stream refuses to start when they disagree.

A lost checkpoint would append every message again, a lost table would stay empty, and offsets of a topic that was
deleted and made anew mean nothing. So the table carries a pair id as a Delta property and the checkpoint's folder
a file with the same id, the table's id and Kafka's id of the topic.
Does not belong here: reading positions (``positions``), removing the pair (``reset``).
"""

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from sentiment_assets.failures import StreamError
from sentiment_assets.runtime.files import replace_file
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import ensure_table, open_existing, set_properties, table_exists
from sentiment_assets.streaming.audit import highest_offsets
from sentiment_assets.streaming.positions import checkpoint, has_batches

PROPERTY = "sentiment.pair_id"
_RESET = (
    "Run `sentiment-assets reset --stream` to score the topic from its start, or point SENTIMENT_HOME at the "
    "folder where they belong together."
)


@dataclass(frozen=True)
class Pair:
    """What the checkpoint knows of its partners."""

    pair_id: str
    table_id: str
    topic: str
    topic_id: str


def ensure_pair(settings: Settings, topic_id: str) -> Pair:
    """Create both tables and the pair, or verify that what is there belongs together.

    The order survives a crash at any point: the table first, then the checkpoint's file, then the table's
    property. As long as the table has no row and the checkpoint no batch, nothing can be lost, and the next
    call begins anew.

    Parameters
    ----------
    topic_id
        Kafka's id of the topic as it is now.

    Raises
    ------
    StreamError
        When checkpoint, table and topic disagree.
    TableError
        When a table there has other columns or cannot be written.
    """
    table = settings.table(PREDICTIONS.name)
    if has_batches(settings) and not table_exists(table):
        raise StreamError(
            f"The checkpoint {checkpoint(settings)} has no table: {table} is missing, so its rows are lost.",
            _RESET,
        )
    ensure_table(table, PREDICTIONS)
    ensure_table(settings.table(DEAD_LETTERS.name), DEAD_LETTERS)
    # Rows of a backfill have a topic of their own: they may be there before the stream's first batch.
    if not has_batches(settings) and not highest_offsets(settings):
        return _create(settings, table, topic_id)
    return _verify(settings, table, topic_id)


def read_pair(settings: Settings) -> Pair | None:
    """What the checkpoint says, or ``None`` when it says nothing readable."""
    try:
        return Pair(**json.loads(_file(settings).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _create(settings: Settings, table: Path, topic_id: str) -> Pair:
    known = read_pair(settings)
    pair_id, table_id = _identity(table)
    if known is not None and known == Pair(pair_id or "", table_id, settings.topic, topic_id):
        return known
    pair = Pair(uuid.uuid4().hex, table_id, settings.topic, topic_id)
    checkpoint(settings).mkdir(parents=True, exist_ok=True)
    replace_file(_file(settings), json.dumps(asdict(pair)))
    set_properties(table, {PROPERTY: pair.pair_id}, known=False)
    return pair


def _verify(settings: Settings, table: Path, topic_id: str) -> Pair:
    if not has_batches(settings):
        raise StreamError(
            f"The table {table} has rows of the topic {settings.topic}, but its checkpoint {checkpoint(settings)} is "
            "missing: every message would be appended again.",
            _RESET,
        )
    known = read_pair(settings)
    pair_id, table_id = _identity(table)
    if known is None or known.pair_id != pair_id or known.table_id != table_id:
        raise StreamError(
            f"The checkpoint {checkpoint(settings)} belongs to another table than {table}.", _RESET
        )
    if known.topic != settings.topic:
        raise StreamError(
            f"The checkpoint {checkpoint(settings)} reads the topic {known.topic}, not {settings.topic}.",
            f"Set SENTIMENT_TOPIC={known.topic}, or run `sentiment-assets reset --stream`.",
        )
    if known.topic_id != topic_id:
        raise StreamError(
            f"The topic {settings.topic} was made anew, or is another cluster's, since the stream last ran: "
            "its old offsets mean nothing.",
            "Run `sentiment-assets reset --stream`, or set SENTIMENT_KAFKA_BOOTSTRAP to the cluster it was.",
        )
    return known


def _file(settings: Settings) -> Path:
    return checkpoint(settings) / "pair.json"


def _identity(table: Path) -> tuple[str | None, str]:
    """The table's pair id and Delta's own id of it."""
    metadata = open_existing(table).metadata()
    return metadata.configuration.get(PROPERTY), str(metadata.id)
