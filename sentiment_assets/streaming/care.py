"""Care for the stream's tables: merge small files, delete those no version needs.

Only inside the process that writes the tables, beside the query. Does not belong here: the commands
themselves (``spark.delta``).
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake.exceptions import DeltaError
from pyspark.sql import SparkSession

from sentiment_assets.lake.cleaning import remove_old_files
from sentiment_assets.lake.commits import merge_small_files
from sentiment_assets.lake.log import checkpoint, trim
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings, is_local
from sentiment_assets.spark.delta import (
    FileStats,
    compact,
    explained_as,
    file_stats,
    open_existing,
    table_exists,
    vacuum,
)
from sentiment_assets.streaming.sink import Sink
from sentiment_assets.streaming.staging import remove_abandoned

log = logging.getLogger(__name__)

SMALL_BYTES = 16 * 2**20
"""A smaller file is merged with others; a larger one is left alone, else each lease would rewrite the table."""
LARGE_BYTES = 128 * 2**20
"""Size that merged files aim at."""
SMALL_FILES = 64
"""So many small files make a compaction worth its seconds: two minutes of a busy stream."""
_DAY_SECONDS = 86_400


def keep_logs_short(settings: Settings) -> None:
    """Write checkpoints that are due and trim the logs of the stream's tables; starts no JVM.

    Raises
    ------
    OSError
        When the disk is full.
    """
    for table in (PREDICTIONS, DEAD_LETTERS):
        path = settings.table(table.name)
        if not (is_local(path) and table_exists(path)):
            continue
        try:
            checkpoint(path)
        except DeltaError as error:
            # Without it the log is longer, and the next look may succeed.
            log.warning("No checkpoint of %s was written: %s", table.name, error)
        trimmed = trim(path)
        if trimmed:
            log.info("Moved %d commits of %s into the archive", trimmed, table.name)


def care_for_tables(spark: SparkSession, settings: Settings, sink: Sink) -> None:
    """Compact each table of the stream when it has many small files, keep its log short, vacuum it daily.

    Parameters
    ----------
    sink
        Of the query that writes predictions: who writes that table merges its files too.

    Raises
    ------
    TableError
        When the disk is full or another process writes a table.
    OSError
        When the log cannot be trimmed.
    """
    keep_logs_short(settings)
    if removed := remove_abandoned(settings):
        log.info("Removed what %d jobs had staged that nobody went on with", removed)
    for table in (PREDICTIONS, DEAD_LETTERS):
        path = settings.table(table.name)
        if not table_exists(path):
            continue
        if small_files(path) >= SMALL_FILES:
            left = _compact(spark, path, None if table is DEAD_LETTERS else sink)
            log.info("Compacted %s to %d files", table.name, left.files)
        stamp = settings.checkpoints / f"{table.name}.vacuumed"
        if not stamp.exists() or abs(time.time() - stamp.stat().st_mtime) > _DAY_SECONDS:
            if stamp.exists() and is_local(path):
                log.info("Deleted %d files that %s had replaced", remove_old_files(path), table.name)
            elif stamp.exists():
                vacuum(spark, path)
            stamp.touch()


def _compact(spark: SparkSession, path: Path, sink: Sink | None) -> FileStats:
    if sink is None or sink.spark_writes:
        with _file_sizes(spark):
            return compact(spark, path)
    with sink.left_to_others(), explained_as(path, "compacted"):
        merge_small_files(path, PREDICTIONS, small=SMALL_BYTES, large=LARGE_BYTES)
    return file_stats(path)


def small_files(path: Path) -> int:
    """Data files of a table that a compaction would merge; needs no JVM."""
    sizes = open_existing(path).get_add_actions(flatten=True)["size_bytes"].to_pylist()
    return sum(size < SMALL_BYTES for size in sizes)


@contextmanager
def _file_sizes(spark: SparkSession) -> Iterator[None]:
    names = {
        "spark.databricks.delta.optimize.minFileSize": SMALL_BYTES,
        "spark.databricks.delta.optimize.maxFileSize": LARGE_BYTES,
    }
    for name, size in names.items():
        spark.conf.set(name, size)
    try:
        yield
    finally:
        for name in names:
            spark.conf.unset(name)
