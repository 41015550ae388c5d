"""Delta tables on a local disk or in an object store: created from their schema, replaced in one commit, read.

Belongs here: files, commits, locks and what can go wrong with them.
Does not belong here: which columns a table has (``schemas``) or what is in them.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError
from filelock import FileLock, Timeout
from pyarrow import ArrowException

from sentiment_assets.failures import TableError
from sentiment_assets.lake.opening import open_table
from sentiment_assets.schemas import Table
from sentiment_assets.settings import is_local

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_DISK_TROUBLE = re.compile(
    r"No space left on device|Read-only file system|Permission denied|Disk quota exceeded|"
    r"Mkdirs failed[^\n]*|Too many open files|Input/output error"
)
# A Java trace as py4j gives it: its first line says nothing, the exception follows after a colon.
_CAUSE = re.compile(r"^(?:Caused by)?: (?:[\w.$]+: )?(.+)$", re.MULTILINE)
_CONSTRAINT_PREFIX = "delta.constraints."


class FileStats(NamedTuple):
    """Data files of the newest version of a table, and their size."""

    files: int
    bytes: int


def ensure_table(path: Path, table: Table) -> None:
    """Create the table if it is not there: columns with comments, NOT NULL, constraints, properties.

    Written by delta-rs, without a JVM: three commits take 10 ms instead of seconds. Interrupted in between it
    is completed by the next call.

    Raises
    ------
    TableError
        When the table there has other columns, or the folder cannot be written.
    """
    # Elsewhere Delta's own VACUUM and checkpoints serve.
    properties = table.properties | (table.local_properties if is_local(path) else {})
    if not table_exists(path):
        with writer_lock(path), explained_as(path, "created"):
            DeltaTable.create(
                str(path),
                Schema.from_json(table.spark_schema().json()),
                name=table.name,
                description=table.comment,
                configuration=properties,
            )
    _check_same_columns(path, table)
    configuration = open_existing(path).metadata().configuration
    if any(configuration.get(name) != value for name, value in properties.items()):
        set_properties(path, properties)
    present = {name.lower() for name in configuration}
    missing = {
        name: rule
        for name, rule in table.constraints.items()
        if f"{_CONSTRAINT_PREFIX}{name}".lower() not in present
    }
    if missing:
        with writer_lock(path), explained_as(path, "created"):
            for name, rule in missing.items():
                # One at a time: delta-rs takes no more.
                open_existing(path).alter.add_constraint({name: rule})


def set_properties(path: Path, properties: Mapping[str, str], *, known: bool = True) -> None:
    """Set properties of a table; the others stay. Written by delta-rs, without a JVM.

    Parameters
    ----------
    known
        Refuse names that Delta does not know.

    Raises
    ------
    TableError
        When the table is missing, or cannot be written.
    """
    with writer_lock(path), explained_as(path, "changed"):
        open_existing(path).alter.set_table_properties(dict(properties), raise_if_not_exists=known)


def overwrite(
    frame: "DataFrame",
    path: Path,
    table: Table,
    user_metadata: Mapping[str, Any] | None = None,
) -> int:
    """Replace the whole content in one atomic commit; when it fails, the last good version stays.

    Parameters
    ----------
    frame
        Rows with exactly the table's columns, in any order; types are cast to the table's.
    path, table
        Where and what; created if it is not there.
    user_metadata
        Kept in the commit as JSON (``userMetadata`` of :func:`history`).

    Returns
    -------
    int
        Version of the table that the commit made.

    Raises
    ------
    TableError
        When columns differ, a row breaks a constraint, another process writes the table, or the disk is full
        or read-only.
    """
    from pyspark.sql import functions as F

    _check_names(frame, table)
    with writer_lock(path):
        ensure_table(path, table)
        columns = [F.col(f"`{c.name}`").cast(c.type.lower()).alias(c.name) for c in table.columns]
        writer = frame.select(columns).write.format("delta").mode("overwrite")
        if user_metadata:
            writer = writer.option("userMetadata", json.dumps(user_metadata))
        with explained_as(path, "written"):
            writer.save(str(path))
        return table_version(path)


def read(spark: "SparkSession", path: Path, version: int | None = None) -> "DataFrame":
    """The table as a DataFrame, the newest version or an older one.

    Raises
    ------
    TableError
        When the table or that version of it does not exist.
    """
    if version is not None and not 0 <= version <= table_version(path):
        raise TableError(
            f"The table {path.name} has no version {version}.",
            f"Choose one from 0 to {table_version(path)}.",
        )
    _require(path)
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    with explained_as(path, "read"):
        return reader.load(str(path))


def compact(spark: "SparkSession", path: Path) -> FileStats:
    """Merge small files into large ones; readers of older versions are not disturbed.

    Raises
    ------
    TableError
        When the table is missing or another process writes it.
    """
    _require(path)
    with writer_lock(path), explained_as(path, "compacted"):
        spark.sql(f"OPTIMIZE {_sql_name(path)}")
    return file_stats(path)


def vacuum(spark: "SparkSession", path: Path) -> None:
    """Delete files that no version of the last week needs (Delta ignores a shorter retention).

    Raises
    ------
    TableError
        When the table is missing or another process writes it.
    """
    _require(path)
    with writer_lock(path), explained_as(path, "vacuumed"):
        spark.sql(f"VACUUM {_sql_name(path)}")


@contextlib.contextmanager
def writer_lock(path: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Be the only process that writes the table (Delta on a local disk has no lock of its own).

    Within one process it may be taken again, from any thread: a stream holds it as long as it runs. A table in an
    object store needs no lock: its log store lets one of two commits win, and the other is tried again or fails.

    Parameters
    ----------
    patience
        Seconds to wait for another process that holds it.

    Raises
    ------
    TableError
        When another process holds it.
    """
    if not is_local(path):
        yield
        return
    file = path.parent / ".locks" / f"{path.name}.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=0, thread_local=False, is_singleton=True)
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise TableError(
            f"Another process writes the table {path.name}.",
            "Wait until it is done (`sentiment-assets status` shows a running stream), then try again.",
        ) from error
    except OSError as error:
        raise _not_done(path, "written", error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()


def table_exists(path: Path) -> bool:
    """Whether there is a Delta table; starts no JVM."""
    if not is_local(path):
        return DeltaTable.is_deltatable(str(path))
    # The first commit of a short log, or the mark of a long one: a busy log has a thousand entries.
    log = path / "_delta_log"
    first = (log / f"{0:020}.json").exists() or (log / "_last_checkpoint").exists()
    return first or next(_commits(path), None) is not None


def table_version(path: Path) -> int:
    """Newest version of the table; starts no JVM.

    Raises
    ------
    TableError
        When the table does not exist.
    """
    _require(path)
    return max(_commits(path)) if is_local(path) else open_existing(path).version()


def row_count(path: Path) -> int:
    """Rows of the newest version, from the statistics in the log; starts no JVM and reads no data.

    Raises
    ------
    TableError
        When the table does not exist.
    """
    table = open_existing(path)
    counts = table.get_add_actions(flatten=True)["num_records"].to_pylist()
    if any(count is None for count in counts):
        return int(table.to_pyarrow_dataset().count_rows())
    return sum(counts)


def file_stats(path: Path) -> FileStats:
    """Number and size of the data files of the newest version; starts no JVM.

    Raises
    ------
    TableError
        When the table does not exist.
    """
    sizes = open_existing(path).get_add_actions(flatten=True)["size_bytes"].to_pylist()
    return FileStats(len(sizes), sum(sizes))


def history(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """Commits, the newest first, as Delta records them; starts no JVM.

    Raises
    ------
    TableError
        When the table does not exist.
    """
    return list(open_existing(path).history(limit))


def open_existing(path: Path) -> DeltaTable:
    """The newest version of a table; starts no JVM.

    Raises
    ------
    TableError
        When the table does not exist, or its log cannot be read.
    """
    _require(path)
    try:
        return open_table(path)
    except (DeltaError, OSError) as error:
        raise TableError(
            f"The log of the table {path.name} cannot be read ({_cause_of(str(error))[:300]}).",
            "Mend the disk; else `sentiment-assets reset --stream` begins the stream's tables anew, --all everything.",
        ) from error


def _commits(path: Path) -> Iterator[int]:
    """Versions whose commit is in the log; the newest always is."""
    return (int(file.stem) for file in (path / "_delta_log").glob("*.json") if file.stem.isdigit())


def _require(path: Path) -> None:
    if not table_exists(path):
        raise TableError(
            f"The table {path.name} does not exist at {path}.", f"Materialize {path.name} first."
        )


def _check_names(frame: "DataFrame", table: Table) -> None:
    missing = [name for name in table.column_names if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in table.column_names]
    if missing or unknown or len(frame.columns) != len(table.columns):
        raise TableError(
            f"These rows do not fit the table {table.name} (missing columns: {', '.join(missing) or 'none'}; "
            f"unknown columns: {', '.join(unknown) or 'none'}).",
            f"Give it exactly: {', '.join(table.column_names)}.",
        )


def _check_same_columns(path: Path, table: Table) -> None:
    """Refuse to write to a table of another shape: evolution is a decision, never an accident."""
    found = {
        field["name"]: field["type"] for field in json.loads(open_existing(path).schema().to_json())["fields"]
    }
    wanted = {field.name: field.dataType.typeName() for field in table.spark_schema()}
    if found != wanted:
        differing = sorted(
            name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)
        )
        raise TableError(
            f"The table at {path} was made by another version of this product: {', '.join(differing)} differ.",
            "Run `sentiment-assets reset --all`, or point SENTIMENT_HOME at another folder.",
        )


@contextlib.contextmanager
def explained_as(path: Path, done: str) -> Iterator[None]:
    """Turn what Spark, delta-rs and pyarrow raise into one sentence with the cause.

    Raises
    ------
    TableError
        That the table could not be ``done``.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException, DeltaError, OSError, ArrowException) as error:
        raise _not_done(path, done, _cause_of(str(error))) from error


def _cause_of(trace: str) -> str:
    trouble = _DISK_TROUBLE.search(trace)
    if trouble:
        return trouble.group(0)
    causes = _CAUSE.findall(trace)
    return str(causes[-1]) if causes else trace.strip().splitlines()[0]


def _not_done(path: Path, done: str, cause: str) -> TableError:
    disk = _DISK_TROUBLE.search(cause)
    return TableError(
        f"The table {path.name} could not be {done} ({cause[:300].rstrip('.')}); its last version is untouched.",
        f"Free some disk or make {path.parent} writable, then try again."
        if disk
        else "Mend the cause and try again; the full trace is in the logs folder.",
    )


def _sql_name(path: Path) -> str:
    escaped = str(path).replace("`", "``")
    return f"delta.`{escaped}`"
