"""Dead letters put into a table without Spark, for tests of what reads them."""

from collections.abc import Sequence

import pyarrow as pa
from deltalake import write_deltalake

from sentiment_assets.schemas import DEAD_LETTERS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import ensure_table
from sentiment_assets.streaming.mending import DeadLetter

_TYPES = {"STRING": pa.string(), "INT": pa.int32(), "BIGINT": pa.int64(), "BINARY": pa.binary()}


def put_aside(settings: Settings, letters: Sequence[DeadLetter]) -> None:
    """Append letters to the table ``dead_letters``."""
    path = settings.table(DEAD_LETTERS.name)
    ensure_table(path, DEAD_LETTERS)
    rows = [vars(letter) | {"seen_at": letter.kafka_timestamp} for letter in letters]
    schema = pa.schema(
        [(c.name, _TYPES.get(c.type, pa.timestamp("us", "UTC"))) for c in DEAD_LETTERS.columns]
    )
    write_deltalake(str(path), pa.Table.from_pylist(rows, schema=schema), mode="append")
