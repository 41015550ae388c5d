"""What changed in a Delta table, version by version, from its log. Starts no JVM.

Belongs here: the log's actions, files and rows. Does not belong here: where the rows go (``postgres``, ``mongodb``).

A sink begins with all files of the current version (older versions may be gone from the log) and then follows
each later commit: files added are rows to insert or replace by (topic, partition, offset); a commit that also
removes files (a rescore, a deletion) takes away the keys that did not come again. Commits that only rearrange
rows (OPTIMIZE: ``dataChange`` is false) are passed over.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from sentiment_assets.failures import TableError
from sentiment_assets.lake.log import Archive
from sentiment_assets.lake.opening import open_table
from sentiment_assets.schemas import FIRST_MOMENT, LAST_MOMENT, PREDICTIONS, Table
from sentiment_assets.settings import is_local

ROWS_A_BATCH = 20_000
"""Rows written in one transaction, unless a single file has more."""
KEY = ("topic", "partition", "offset")

_EARLIEST, _LATEST = (
    pa.scalar(datetime.fromisoformat(moment), pa.timestamp("us", "UTC"))
    for moment in (FIRST_MOMENT, LAST_MOMENT)
)
_ROWS_AT_ONCE = 10_000
_RESYNC = "Copy the table anew with `sentiment-assets sink run --resync`."
_ARROW_TYPES = {
    "STRING": pa.string(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
}


@dataclass(frozen=True)
class Position:
    """How far a sink is.

    Attributes
    ----------
    table_id
        Delta's id of the table; another one means that the table was made anew.
    version
        Version of the table that is being applied, or was applied last.
    files
        How many files of that version are in the sink; None: all of it is.
    whole
        Whether the files are all those of the table at this version, not just those that it added.
    """

    table_id: str
    version: int
    files: int | None
    whole: bool


class DataFile(NamedTuple):
    """One Parquet file of the table."""

    path: str
    rows: int


def _within_reach(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Times that a client cannot hold, from before the stream bounded them: null, where a column may be."""
    unknown = pa.scalar(None, _LATEST.type)
    for name, early, late in (("created_at", unknown, unknown), ("kafka_timestamp", _EARLIEST, _LATEST)):
        place = rows.schema.get_field_index(name)
        times = rows.column(place)
        times = pc.if_else(pc.less(times, _LATEST), times, late)
        times = pc.if_else(pc.less(times, _EARLIEST), early, times)
        rows = rows.set_column(place, rows.schema.field(place), times)
    return rows


@dataclass(frozen=True)
class Batch:
    """What is written in one transaction.

    Attributes
    ----------
    files
        Their rows are inserted or replaced.
    position
        Where the sink is afterwards.
    removed
        Files whose keys are deleted unless they are in ``kept``.
    rewrites
        Whether the rows come instead of earlier ones, as those of a rescore do.
    anew
        Whether the sink is to be cleared first.
    """

    changes: "TableChanges"
    files: tuple[DataFile, ...]
    position: Position
    removed: tuple[DataFile, ...] = ()
    kept: tuple[DataFile, ...] = ()
    rewrites: bool = False
    anew: bool = False

    @property
    def rows(self) -> int:
        """Rows to insert or replace."""
        return sum(file.rows for file in self.files)

    def tables(self) -> Iterator[pa.RecordBatch]:
        """The rows, some ten thousand at a time, columns as declared in ``schemas``."""
        for file in self.files:
            yield from map(_within_reach, self.changes.read(file))

    def deleted_keys(self) -> Iterator[tuple[str, int, "np.ndarray[Any, np.dtype[np.int64]]"]]:
        """Topic, partition and offsets that are gone from the table."""
        if not self.removed:
            return
        before, after = self.changes.offsets(self.removed), self.changes.offsets(self.kept)
        for (topic, partition), offsets in before.items():
            gone = np.setdiff1d(offsets, after.get((topic, partition), np.empty(0, np.int64)))
            if len(gone):
                yield topic, partition, gone


class TableChanges:
    """The table as it is now, and what led to it.

    Use :meth:`open`.
    """

    def __init__(self, table: DeltaTable, path: Path, schema: Table) -> None:
        self._table = table
        self._path = path
        self._archive = Archive(path)
        self._schema = schema
        self._name = schema.name
        self._files = pafs.PyFileSystem(DeltaStorageHandler.from_table(table._table))
        self.version: int = table.version()
        self.table_id = str(table.metadata().id)

    @classmethod
    def open(cls, path: Path, schema: Table = PREDICTIONS) -> Self | None:
        """Read the table's current version; None when there is no table yet.

        Raises
        ------
        TableError
            When the table cannot be read.
        """
        try:
            return cls(open_table(path), path, schema)
        except TableNotFoundError:
            return None
        except DeltaError as error:
            raise TableError(
                f"The table {path} cannot be read ({error}).", "Check it with `sentiment-assets status`."
            ) from error

    def batches(self, position: Position | None, rows: int = ROWS_A_BATCH) -> Iterator[Batch]:
        """What is to be written after a position, in order, up to the current version.

        Parameters
        ----------
        rows
            Most rows of a batch that is more than one file.

        Raises
        ------
        TableError
            When the position belongs to another table, or what it needs was cleaned away.
        """
        if position is None:
            yield from self._whole(self.version, 0, rows)
            first = self.version + 1
        else:
            self.check(position)
            begun = position.version
            if position.files is not None and position.whole:
                try:
                    pinned = self._at(begun)
                except DeltaError:
                    # What has been deleted since then would stay: the copy begins anew, from today's files.
                    begun = self.version
                    for number, batch in enumerate(self._whole(begun, 0, rows)):
                        yield replace(batch, anew=number == 0)
                else:
                    yield from pinned._whole(begun, position.files, rows)
            first = begun + 1
            if position.files is not None and not position.whole:
                yield from self._commits(position.version, position.version, position.files, rows)
        yield from self._commits(first, self.version, 0, rows)

    def moved(self) -> bool:
        """Whether the table has another version by now; costs a look at two files."""
        names = [f"_delta_log/{version:020}.json" for version in (self.version, self.version + 1)]
        current, following = self._files.get_file_info(names)
        return bool(following.type != pafs.FileType.NotFound or current.type == pafs.FileType.NotFound)

    def check(self, position: Position) -> None:
        """Refuse a position that does not belong to this table.

        Raises
        ------
        TableError
            When the sink follows another table, or one that was put back to an older version.
        """
        if position.table_id != self.table_id:
            raise TableError(
                f"The sink follows another table {self._name} (id {position.table_id}; this one has "
                f"{self.table_id}): it was reset.",
                _RESYNC,
            )
        if position.version > self.version:
            raise TableError(
                f"The sink is at version {position.version} of the table {self._name}, which is at "
                f"{self.version}: it was put back.",
                _RESYNC,
            )

    def read(self, file: DataFile, columns: Iterable[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a file; columns that it does not have yet are null.

        Raises
        ------
        TableError
            When the file is gone.
        """
        wanted = [c for c in self._schema.columns if columns is None or c.name in columns]
        try:
            with self._files.open_input_file(file.path) as source:
                parquet = pq.ParquetFile(source)
                present = set(parquet.schema_arrow.names)
                names = [column.name for column in wanted if column.name in present]
                for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=names):
                    arrays = [
                        batch.column(column.name).cast(_ARROW_TYPES[column.type], safe=False)
                        if column.name in present
                        else pa.nulls(batch.num_rows, _ARROW_TYPES[column.type])
                        for column in wanted
                    ]
                    yield pa.RecordBatch.from_arrays(arrays, [column.name for column in wanted])
        except FileNotFoundError:
            raise TableError(
                f"A file of the table {self._name} was vacuumed away before the sink had read it.", _RESYNC
            ) from None

    def offsets(
        self, files: Iterable[DataFile]
    ) -> dict[tuple[str, int], "np.ndarray[Any, np.dtype[np.int64]]"]:
        """Offsets by topic and partition."""
        found: dict[tuple[str, int], list[np.ndarray[Any, np.dtype[np.int64]]]] = {}
        for file in files:
            for batch in self.read(file, KEY):
                table = pa.Table.from_batches([batch])
                for pair in table.group_by(["topic", "partition"]).aggregate([]).to_pylist():
                    mask = pc.and_(
                        pc.equal(table["topic"], pair["topic"]),
                        pc.equal(table["partition"], pair["partition"]),
                    )
                    key = (str(pair["topic"]), int(pair["partition"]))
                    found.setdefault(key, []).append(table.filter(mask)["offset"].to_numpy())
        return {key: np.unique(np.concatenate(parts)) for key, parts in found.items()}

    def _at(self, version: int) -> "TableChanges":
        if version == self.version:
            return self
        return TableChanges(open_table(self._path, version), self._path, self._schema)

    def _whole(self, version: int, done: int, rows: int) -> Iterator[Batch]:
        """All files of a version, the oldest first, but for those that are done."""
        found = pa.table(self._table.get_add_actions(flatten=True))
        # Not the statistics of the columns: Python cannot hold each time of theirs.
        columns = [
            name for name in ("path", "modification_time", "num_records") if name in found.column_names
        ]
        actions = found.select(columns).to_pylist()
        actions.sort(key=lambda action: (action["modification_time"], action["path"]))
        files = [DataFile(unquote(a["path"]), self._count(unquote(a["path"]), a)) for a in actions]
        yield from self._grouped(files[done:], version, done, len(files), rows, whole=True)

    def _commits(self, first: int, last: int, done: int, rows: int) -> Iterator[Batch]:
        """The files that commits added; small commits share a batch."""
        pending: list[DataFile] = []
        version = first - 1
        for version in range(first, last + 1):
            added, removed = self._actions(version)
            added = added[done:] if version == first else added
            begun = done if version == first else 0
            large = sum(file.rows for file in added) > rows
            if pending and (removed or large or sum(f.rows for f in (*pending, *added)) > rows):
                yield self._complete(pending, version - 1)
                pending = []
            if removed or large:
                yield from self._grouped(
                    added, version, begun, None, rows, whole=False, rewrites=bool(removed)
                )
                done_position = Position(self.table_id, version, None, whole=False)
                kept = tuple(self._actions(version)[0])
                yield Batch(self, (), done_position, tuple(removed), kept)
            else:
                pending += added
        if version >= first and (pending or not (removed or large)):
            yield self._complete(pending, version)

    def _complete(self, files: list[DataFile], version: int) -> Batch:
        return Batch(self, tuple(files), Position(self.table_id, version, None, whole=False))

    def _grouped(
        self,
        files: list[DataFile],
        version: int,
        done: int,
        total: int | None,
        rows: int,
        *,
        whole: bool,
        rewrites: bool = False,
    ) -> Iterator[Batch]:
        """Files of one version in batches; the one that ends at ``total`` completes the version."""
        group: list[DataFile] = []
        place = done
        for number, file in enumerate(files):
            group.append(file)
            place += 1
            following = files[number + 1].rows if number + 1 < len(files) else 0
            if number + 1 < len(files) and sum(f.rows for f in group) + following <= rows:
                continue
            reached = None if total is not None and place == total else place
            position = Position(self.table_id, version, reached, whole)
            yield Batch(self, tuple(group), position, rewrites=rewrites)
            group = []
        if not files and total is not None:
            yield Batch(self, (), Position(self.table_id, version, None, whole))

    def _actions(self, version: int) -> tuple[list[DataFile], list[DataFile]]:
        """Files that a commit added and removed, without those that only hold the same rows elsewhere."""
        path = f"_delta_log/{version:020}.json"
        try:
            with self._files.open_input_stream(path) as stream:
                # U+2028 in statistics ends no line.
                actions = [json.loads(line) for line in stream.read().split(b"\n") if line]
        except FileNotFoundError:
            archived = self._archive.actions(version) if is_local(self._path) else None
            if archived is None:
                raise TableError(
                    f"Version {version} of the table {self._name} is gone from its log, before the sink had read it.",
                    _RESYNC,
                ) from None
            actions = archived
        added: list[DataFile] = []
        removed: list[DataFile] = []
        for action in actions:
            for name, files in (("add", added), ("remove", removed)):
                file = action.get(name)
                if file is None or not file.get("dataChange", True):
                    continue
                if file.get("deletionVector") is not None:
                    raise TableError(
                        f"The table {self._name} uses deletion vectors, which a sink cannot follow.",
                        "Set its property delta.enableDeletionVectors to false.",
                    )
                where = unquote(file["path"])
                rows = self._count(where, _stats(file)) if name == "add" else 0
                files.append(DataFile(where, rows))
        return added, removed

    def _count(self, path: str, stats: dict[str, Any]) -> int:
        count = stats.get("num_records", stats.get("numRecords"))
        if count is not None:
            return int(count)
        with self._files.open_input_file(path) as source:
            return int(pq.ParquetFile(source).metadata.num_rows)


def _stats(action: dict[str, Any]) -> dict[str, Any]:
    stats = json.loads(action.get("stats") or "{}")
    return stats if isinstance(stats, dict) else {}
