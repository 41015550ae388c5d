"""Where the predictions query writes: each micro-batch one append to the table, exactly once.

Delta's own streaming sink asks before each batch which batch the table has, and Delta 4.4 answers by reading its whole
log with three Spark jobs: 0.35 of the 0.75 s of a batch at 1,000 messages a second. Only one batch can be in the table
without being recorded in the checkpoint: the last one that was planned when the stream before ended. So this sink looks
once, and into the table itself: Delta commits all rows of a batch or none, and an offset is never scored twice.

That is enough where no other writer can come between, which the stream's lock ensures within SENTIMENT_HOME. For
tables elsewhere (SENTIMENT_STORAGE), which several homes and machines may share, Delta's sink stays: there its
transaction is what keeps a second writer out.
Does not belong here: the plan (``query``), positions (``positions``).
"""

import logging
from pathlib import Path

import pyarrow as pa
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame
from pyspark.sql.streaming.readwriter import DataStreamWriter

from sentiment_assets.failures import StreamError
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.session import CHECKSUM_FILES
from sentiment_assets.streaming.audit import has_rows
from sentiment_assets.streaming.causes import explain, explained
from sentiment_assets.streaming.positions import Offsets, checkpoint, newest_plan, planned_offsets

log = logging.getLogger(__name__)

_SMALL_MESSAGES = 2_000
"""So few are read, scored and written by one task as soon as by one a partition."""
_REFUSED = (
    "Restore checkpoints and lake from one backup, taken while no stream ran, or run "
    "`sentiment-assets reset --stream` to score the topic from its start."
)


def is_ours(settings: Settings) -> bool:
    """Whether no other installation can write the tables, so that this sink may serve."""
    return settings.storage_root == settings.root


def append(rows: DataFrame, table: Path, *, small: bool) -> None:
    """Append the rows of a batch to a Delta table in one commit.

    Parameters
    ----------
    small
        One file instead of one a partition: files of a stream are many, and stay for a week.
    """
    (rows.coalesce(1) if small else rows).write.format("delta").mode("append").save(str(table))


class Sink:
    """The sink of one query; make it with the stream's lock held, when checkpoint and table are mended.

    Attributes
    ----------
    failure
        Why a batch could not be written, which ends the query.
    leaves_checksums
        Whether each commit gets a checksum file of Delta's. From that of the last commit another JVM goes on at once;
        without it Delta computes the state of the table from its log first, for 3 s in which nothing is scored.

    Raises
    ------
    StreamError
        When the table is ahead of the checkpoint, or one of the two cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._table = settings, settings.table(PREDICTIONS.name)
        self._is_ours = is_ours(settings)
        self._newest = newest_plan(settings) if self._is_ours else None
        self._last = -1
        self.failure: StreamError | None = None
        self.leaves_checksums = False
        self._has_left_checksums = False
        if self._newest is not None and self._has_rows(self._newest.end):
            raise StreamError(
                f"The table {self._table} has rows of messages that the checkpoint has not planned yet: it is ahead of "
                "its checkpoint, and they would be appended again.",
                _REFUSED,
            )

    def of(self, writer: DataStreamWriter) -> DataStreamWriter:
        """The writer with this sink."""
        if self._is_ours:
            # What ends the query is in ``failure``; py4j would print a traceback of it.
            logging.getLogger("py4j.clientserver").setLevel(logging.CRITICAL)
            return writer.foreachBatch(self._append)
        return writer.format("delta").outputMode("append").option("path", str(self._table))

    def _append(self, rows: DataFrame, batch: int) -> None:
        try:
            if batch <= self._last:
                raise StreamError(
                    f"Batch {batch} came again after batch {self._last}.", "Start the stream again."
                )
            if not self._has(batch):
                self._set_checksums(rows)
                with explained():
                    append(rows, self._table, small=self._is_small(batch))
            self._last = batch
        except StreamError as error:
            self.failure = error
            raise

    def _set_checksums(self, rows: DataFrame) -> None:
        if self.leaves_checksums != self._has_left_checksums:
            self._has_left_checksums = self.leaves_checksums
            # Of the session of the batches, which Spark has cloned for the query.
            rows.sparkSession.conf.set(CHECKSUM_FILES, self.leaves_checksums)

    def _is_small(self, batch: int) -> bool:
        folder, topic = checkpoint(self._settings), self._settings.topic
        end, start = (planned_offsets(folder, number, topic) for number in (batch, batch - 1))
        if end is None or start is None:
            return False
        return sum(until - start.get(part, 0) for part, until in end.items()) <= _SMALL_MESSAGES

    def _has(self, batch: int) -> bool:
        """Whether the table has the rows of a batch that was planned before this query began."""
        plan, self._newest = self._newest, None
        if plan is None or plan.number != batch:
            return False
        found = self._has_rows(plan.start, plan.end)
        if found:
            log.info("The table has batch %d already; it is recorded now.", batch)
        return found

    def _has_rows(self, start: Offsets, end: Offsets | None = None) -> bool:
        try:
            return has_rows(self._settings, start, end)
        except (OSError, DeltaError, pa.ArrowException) as error:
            raise explain(f"{type(error).__name__}: {error}") from error
