"""Commits of data files to a Delta table by delta-rs: new ones appended, small ones merged. Starts no JVM.

delta-rs creates the entry of a commit by a link, which fails where there is one, so several of its writers that append
lose nothing to each other, nor to one that merges. Two merges at once would double rows, and an append from a version
before rows were replaced is refused. Delta's own writer looks and then renames: it must never commit to a table while
one of these does.
Does not belong here: the files themselves (``files``), what their rows say and when they are merged (``streaming``).
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, CommitProperties, RemoveAction

from sentiment_assets.lake.files import DataFile, FileWriter, new_name, read_schema
from sentiment_assets.lake.opening import open_table
from sentiment_assets.schemas import Table

# So that a checkpoint is not written within a commit, which a batch waits for.
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_ATTEMPTS = 20


class Appender:
    """Commits files to one table, a few milliseconds each: it keeps the table open.

    Parameters
    ----------
    path
        The table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table: DeltaTable | None = None

    def append(self, files: Sequence[DataFile]) -> None:
        """Make files part of the table, all or none.

        Raises
        ------
        DeltaError, OSError
            When the log cannot be read or written. After a ``CommitFailedError`` the table is as it was; after any
            other the commit may be there.
        """
        if self._table is None:
            self._table = open_table(self._path)
        table, self._table = self._table, None
        _commit(table, [_added(file) for file in files])
        # A commit leaves the object where it was. The files are in the table now, whatever comes of this.
        with contextlib.suppress(DeltaError, OSError):
            table.update_incremental()
            self._table = table


def merge_small_files(path: Path, table: Table, *, small: int, large: int) -> int:
    """Merge files into larger ones, in one commit; rows and readers of older versions are not touched.

    Parameters
    ----------
    path, table
        Where and what; only who may write it may call this.
    small
        Files of fewer bytes are merged.
    large
        Bytes that a merged file has at most, as its parts are counted.

    Returns
    -------
    int
        Files that were replaced.

    Raises
    ------
    DeltaError, OSError
        When the log or a file cannot be read, or the disk is full. The rows are there, merged or not.
    """
    delta = open_table(path)
    files = (
        pa.table(delta.get_add_actions(flatten=True))
        .select(["path", "size_bytes", "modification_time"])
        .sort_by([("modification_time", "ascending")])
        .to_pylist()
    )
    replaced: list[RemoveAction] = []
    merged: list[DataFile] = []
    try:
        for group in _groups([file for file in files if file["size_bytes"] < small], large):
            merged.append(_merge(path, table, [unquote(file["path"]) for file in group]))
            replaced += [
                RemoveAction(
                    path=unquote(file["path"]),
                    data_change=False,
                    deletion_timestamp=_now(),
                    size=file["size_bytes"],
                    partition_values={},
                )
                for file in group
            ]
    except BaseException:
        _remove(path, merged)
        raise
    if replaced:
        try:
            _commit(delta, [*replaced, *(_added(file, is_new=False) for file in merged)])
        except CommitFailedError:
            # After any other error the commit may be there all the same, and these files part of the table.
            _remove(path, merged)
            raise
    return len(replaced)


def _remove(path: Path, files: Sequence[DataFile]) -> None:
    for file in files:
        (path / file.name).unlink(missing_ok=True)


def _groups(files: list[dict[str, Any]], large: int) -> Iterator[list[dict[str, Any]]]:
    """Neighbours that are merged into one file; none of a single file."""
    group: list[dict[str, Any]] = []
    size = 0
    for file in files:
        if group and size + file["size_bytes"] > large:
            if len(group) > 1:
                yield group
            group, size = [], 0
        group.append(file)
        size += file["size_bytes"]
    if len(group) > 1:
        yield group


def _merge(path: Path, table: Table, names: Sequence[str]) -> DataFile:
    writer = FileWriter(path / new_name(), table)
    try:
        for name in names:
            # Spark wrote 12-byte times once, which Arrow would take for nanoseconds: too narrow for the year 9999.
            file = pq.ParquetFile(path / name, coerce_int96_timestamp_unit="us")
            for batch in file.iter_batches(columns=read_schema(table).names):
                rows = pa.Table.from_batches([batch]).cast(read_schema(table)).combine_chunks()
                writer.write({n: rows[n].chunk(0) for n in rows.column_names if rows.num_rows})
        return writer.close()
    except BaseException:
        writer.abandon()
        raise


def _added(file: DataFile, *, is_new: bool = True) -> AddAction:
    return AddAction(
        path=file.name,
        size=file.size,
        partition_values={},
        modification_time=_now(),
        data_change=is_new,
        stats=file.statistics,
    )


def _commit(table: DeltaTable, actions: Sequence[AddAction | RemoveAction]) -> None:
    table.create_write_transaction(
        list(actions),
        "append",
        table.schema(),
        commit_properties=CommitProperties(max_commit_retries=_ATTEMPTS),
        post_commithook_properties=_NO_HOOKS,
    )


def _now() -> int:
    return int(time.time() * 1000)
