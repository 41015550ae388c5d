"""A data file of a Delta table, written with pyarrow. Starts no JVM, and imports little: Spark's Python workers write.

Belongs here: one file and what Delta wants to know of it. Does not belong here: the commit that makes it part of the
table (``commits``).
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiment_assets.schemas import Table

_TYPES = {
    "STRING": pa.string(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
}
_GROUP_ROWS, _GROUP_BYTES = 131_072, 64 * 2**20
_STATISTICS = "delta.dataSkippingStatsColumns"


@dataclass(frozen=True)
class DataFile:
    """A Parquet file in the folder of a table.

    Attributes
    ----------
    name
        Of the file.
    size
        In bytes.
    rows
        In it.
    statistics
        Delta's, as JSON.
    """

    name: str
    size: int
    rows: int
    statistics: str


def read_schema(table: Table) -> pa.Schema:
    """Names, types and nullability of a table's columns, as Arrow has them."""
    return pa.schema([pa.field(c.name, _TYPES[c.type], nullable=c.nullable) for c in table.columns])


@dataclass
class _Span:
    """Smallest and largest value of a column, and its nulls."""

    smallest: Any = None
    largest: Any = None
    nulls: int = 0

    def take(self, values: Any) -> None:
        self.nulls += values.null_count
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode() if len(values.dictionary) > 1 else values.dictionary
        found = pc.min_max(values).as_py()
        for value in (found["min"], found["max"]):
            if value is not None:
                self.smallest = value if self.smallest is None else min(self.smallest, value)
                self.largest = value if self.largest is None else max(self.largest, value)


class FileWriter:
    """Writes one file, a group of rows at a time.

    Parameters
    ----------
    path
        Of the file; in the folder of the table.
    table
        Its columns, and of which Delta keeps statistics.
    """

    def __init__(self, path: Path, table: Table) -> None:
        self._path = path
        self._schema = read_schema(table)
        self._spans = {name: _Span() for name in table.properties[_STATISTICS].split(",")}
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = self._waiting_rows = self._rows = 0
        self._dictionaries = list(table.repeated)

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append rows: an Arrow array a column, strings plain or as a dictionary.

        Raises
        ------
        OSError
            When the disk is full.
        """
        arrays = [columns[name] for name in self._schema.names]
        for name, span in self._spans.items():
            span.take(columns[name])
        fields = [
            f.with_type(a.type) if pa.types.is_dictionary(a.type) else f
            for f, a in zip(self._schema, arrays, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        self._rows += batch.num_rows
        if self._waiting_rows >= _GROUP_ROWS or self._waiting_bytes >= _GROUP_BYTES:
            self._flush()

    def close(self) -> DataFile:
        """Complete the file."""
        self._flush()
        assert self._writer is not None  # noqa: S101  rows come before the end
        self._writer.close()
        statistics = {
            "numRecords": self._rows,
            "minValues": {name: _shown(span.smallest) for name, span in self._known()},
            "maxValues": {name: _shown(span.largest, up=True) for name, span in self._known()},
            "nullCount": {name: span.nulls for name, span in self._spans.items()},
        }
        return DataFile(self._path.name, self._path.stat().st_size, self._rows, json.dumps(statistics))

    def abandon(self) -> None:
        """Remove the file; nothing of it counts."""
        if self._writer is not None:
            self._writer.close()
            self._path.unlink(missing_ok=True)

    def _known(self) -> Iterator[tuple[str, _Span]]:
        return ((name, span) for name, span in self._spans.items() if span.smallest is not None)

    def _flush(self) -> None:
        if not self._waiting:
            return
        # Batches may have dictionaries of their own.
        rows = pa.Table.from_batches(self._waiting).unify_dictionaries()
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                rows.schema,
                compression="snappy",
                use_dictionary=self._dictionaries,
                write_statistics=list(self._spans),
                # Else readers would be told of dictionaries, and each file would carry the schema twice.
                store_schema=False,
            )
        self._writer.write_table(rows, row_group_size=_GROUP_ROWS)


def _shown(value: Any, *, up: bool = False) -> Any:
    """As Delta's statistics have it: times in milliseconds, a largest one no smaller than it is."""
    if not isinstance(value, datetime):
        return value
    if up and value.microsecond % 1000:
        value += timedelta(milliseconds=1)
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_name() -> str:
    """Of a data file, one that no other has."""
    return f"part-{uuid.uuid4()}.snappy.parquet"
