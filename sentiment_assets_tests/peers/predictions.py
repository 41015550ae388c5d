"""A table of predictions without Spark: made-up rows, appended, rescored, compacted; and its checksum."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.sinks.changes import _ARROW_TYPES

SCHEMA = pa.schema([pa.field(c.name, _ARROW_TYPES[c.type], nullable=c.nullable) for c in PREDICTIONS.columns])
PARTITIONS = 2
YEAR_0, YEAR_10000 = -62_167_219_200_000_000, 253_402_300_800_000_000
"""Times that Python cannot hold, in microseconds since 1970."""
_START = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)


def rows(first: int, last: int, model: str = "model-1", partitions: int = PARTITIONS) -> pa.Table:
    """Predictions number ``first`` to ``last``; texts hold what breaks formats."""
    numbers = range(first, last + 1)
    awkward = ["plain", 'quo"te, comma', "two\nlines\\.", "nul \0 byte", "☕ \u2028 café", "", "\\N", "NULL"]
    return pa.table(
        {
            "tweet_id": [None if n % 10 == 3 else str(n) for n in numbers],
            "author": [None if n % 7 == 0 else "" if n % 11 == 0 else f"user{n % 100}" for n in numbers],
            "created_at": [None if n % 5 == 0 else _START - timedelta(days=n % 6000) for n in numbers],
            "sentiment": ["positive" if n % 2 else "negative" for n in numbers],
            "probability": [(n * 7919 % 10007) / 10007 for n in numbers],
            "model_version": [model] * len(numbers),
            "topic": ["tweets"] * len(numbers),
            "partition": [n % partitions for n in numbers],
            "offset": [n // partitions for n in numbers],
            "kafka_timestamp": [_START + timedelta(milliseconds=n) for n in numbers],
            "scored_at": [_START + timedelta(milliseconds=n + 500) for n in numbers],
            "text": [f"{awkward[n % len(awkward)]} {n}" for n in numbers],
        },
        SCHEMA,
    )


def with_times(made: pa.Table, **first: int) -> pa.Table:
    """The same rows with other times, each column's from that on (microseconds since 1970; any that Parquet holds)."""
    for name, begin in first.items():
        times = pa.array(range(begin, begin + made.num_rows), pa.int64()).cast(pa.timestamp("us", "UTC"))
        place = made.schema.get_field_index(name)
        made = made.set_column(place, made.schema.field(place), times)
    return made


def append(table: Path, first: int, last: int, model: str = "model-1") -> int:
    """One commit of new rows; returns the table's version."""
    properties = {"delta.enableDeletionVectors": "false"}
    write_deltalake(str(table), rows(first, last, model), mode="append", configuration=properties)
    return int(DeltaTable(str(table)).version())


def rescore(table: Path, first: int, last: int, model: str) -> int:
    """All rows anew, by another model, as one overwriting commit."""
    write_deltalake(
        str(table),
        rows(first, last, model),
        mode="overwrite",
        commit_properties=CommitProperties(custom_metadata={"reason": "rescore"}),
    )
    return int(DeltaTable(str(table)).version())


def checksum(found: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Number of rows and a sum over all their values, the same in any order.

    Times count to the millisecond, which is what MongoDB keeps; a NUL in a text counts as U+FFFD, since
    PostgreSQL has no other way to keep it.
    """
    count, total = 0, 0
    for row in found:
        values = [_canonical(row[column.name]) for column in PREDICTIONS.columns]
        digest = hashlib.blake2b(repr(values).encode("utf-8", "replace"), digest_size=8).digest()
        count += 1
        total = (total + int.from_bytes(digest, "big")) % 2**64
    return count, total


def table_rows(table: Path) -> Iterable[dict[str, Any]]:
    """All rows of the Delta table."""
    for batch in DeltaTable(str(table)).to_pyarrow_dataset().to_batches():
        yield from batch.to_pylist()


def _canonical(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000 + 0.5)
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return value
