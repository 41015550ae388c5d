"""Where the predictions query writes: each micro-batch one append to the table, exactly once.

Where it can, workers write the rows as files and this sink commits them; while Spark itself commits to the table, and
for a model that only its pipeline can apply, Spark writes them.

Delta's own streaming sink asks before each batch which batch the table has, and Delta 4.4 answers by reading its whole
log with three Spark jobs: 0.35 of the 0.75 s of a batch at 1,000 messages a second. Only one batch can be in the table
without being recorded in the checkpoint: the last one that was planned when the stream before ended. So this sink looks
once, and into the table itself: Delta commits all rows of a batch or none, and an offset is never written twice.

That is enough where no other writer can come between, which the locks of the stream and of its tables ensure within
SENTIMENT_HOME. For tables elsewhere (SENTIMENT_STORAGE), which several homes and machines may share, Delta's sink
stays: there its transaction is what keeps a second writer out.
Does not belong here: the plan (``query``), positions (``positions``).
"""

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.sql.streaming.readwriter import DataStreamWriter

from sentiment_assets.failures import StreamError
from sentiment_assets.lake.commits import Appender
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.session import CHECKSUM_FILES
from sentiment_assets.streaming.audit import has_rows
from sentiment_assets.streaming.causes import explain, explained
from sentiment_assets.streaming.positions import Offsets, checkpoint, newest_plan, planned_offsets
from sentiment_assets.streaming.progress import Batch
from sentiment_assets.streaming.scored_files import Scoring, Written
from sentiment_assets.streaming.writing import append, discard, is_ours, write_files

log = logging.getLogger(__name__)

_SMALL_MESSAGES = 2_000
"""So few are read, scored and written by one task as soon as by one a partition."""
_WORTH_READING = 10_000
"""Fewer are read by Spark alone sooner than by workers first, which takes a job more: seconds in a JVM that is cold."""
_REFUSED = (
    "Restore checkpoints and lake from one backup, taken while no stream ran, or run "
    "`sentiment-assets reset --stream` to score the topic from its start."
)


class Sink:
    """The sink of one query; make it with the stream's lock held, when checkpoint and table are mended.

    Parameters
    ----------
    scoring
        The query gives messages as Kafka has them, and workers score them; ``None``: it gives scored rows.
    by_spark
        From such messages to scored rows, for the batches that Spark writes all the same.
    read_by_workers
        Whether workers may read messages of large batches too.

    Attributes
    ----------
    failure
        Why a batch could not be written, which ends the query.
    leaves_checksums
        Whether each commit of Spark's gets a checksum file of Delta's. From that of the last commit another JVM goes on
        at once; without it Delta computes the state of the table from its log first, for 3 s without scores.

    Raises
    ------
    StreamError
        When the table is ahead of the checkpoint, or one of the two cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        scoring: Scoring | None = None,
        by_spark: Callable[[DataFrame], DataFrame] = lambda rows: rows,
        *,
        read_by_workers: bool = False,
    ) -> None:
        self._settings, self._table = settings, settings.table(PREDICTIONS.name)
        self._scoring, self._by_spark = scoring, by_spark
        self._appender = Appender(self._table)
        self._counts: dict[int, dict[str, Any]] = {}
        self._spark_writes = scoring is None
        self._deciding, self._of_spark = threading.Lock(), threading.Lock()
        self._read_by_workers = read_by_workers
        self._is_closed = False
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

    @property
    def spark_writes(self) -> bool:
        """Whether Spark commits to the table, so that nobody else may."""
        return self._spark_writes

    @contextlib.contextmanager
    def left_to_spark(self) -> Iterator[None]:
        """Let Spark commit to the table meanwhile, beside the query; see ``lake.commits``."""
        if self._scoring is None:
            yield
            return
        with self._deciding:
            self._spark_writes = True
        try:
            yield
        finally:
            with self._deciding:
                self._spark_writes = False
                # Spark may have replaced rows: a commit from a version before that would be refused.
                self._appender = Appender(self._table)

    @contextlib.contextmanager
    def left_to_others(self) -> Iterator[None]:
        """Wait for a batch that Spark still commits to the table, and let it commit none meanwhile."""
        with self._of_spark:
            yield

    def counted(self, batch: Batch) -> Batch:
        """A reported batch with what this sink has counted in it, where Spark has not."""
        counts = self._counts.pop(batch.number, None) if batch.end != batch.start else None
        return replace(batch, **counts) if counts else batch

    def close(self) -> None:
        """Commit nothing from now on; a commit under way comes to its end.

        Its JVM need not be there for a batch to be committed: call it before the stream's lock is given back.
        """
        with self._deciding:
            self._is_closed = True

    def _append(self, rows: DataFrame, batch: int) -> None:
        try:
            if batch <= self._last:
                raise StreamError(
                    f"Batch {batch} came again after batch {self._last}.", "Start the stream again."
                )
            if not self._has(batch):
                with _explained():
                    self._write(rows, batch)
            self._last = batch
        except StreamError as error:
            self.failure = error
            raise

    def _write(self, rows: DataFrame, batch: int) -> None:
        size = self._size_of(batch)
        small = size <= _SMALL_MESSAGES
        if self._scoring is None:
            self._set_checksums(rows)
            append(rows, self._table, small=small)
            return
        while True:
            if not self._spark_writes and self._write_by_workers(rows, self._scoring, batch, size):
                return
            # While others merge files, Spark may have ended to commit before it is this batch's turn.
            with self._of_spark:
                if self._spark_writes:
                    self._write_by_spark(rows, batch, small=small)
                    return

    def _write_by_workers(self, rows: DataFrame, scoring: Scoring, batch: int, size: float) -> bool:
        """Whether the batch is in the table; it is not when Spark has begun to commit meanwhile."""
        written = write_files(
            rows,
            scoring,
            self._table,
            one_file=size <= _SMALL_MESSAGES,
            read_by_workers=self._read_by_workers and size > _WORTH_READING,
        )
        if written.gave_up:
            log.info("Too many or too long messages are not plain: Spark reads them all in this lease.")
            self._read_by_workers = False
        with self._deciding:
            if self._spark_writes or self._is_closed:
                discard(written, self._table)
                if self._is_closed:
                    raise StreamError("The stream ends.", "Start it again.")
                return False
            if written.files:
                self._appender.append(written.files)
            self._counts[batch] = _counts(written)
            return True

    def _write_by_spark(self, rows: DataFrame, batch: int, *, small: bool) -> None:
        counted = Observation()
        scored = self._by_spark(rows).observe(
            counted,
            F.count(F.lit(1)).alias("rows"),
            F.count_if(F.col("sentiment") == "positive").alias("positives"),
        )
        append(scored, self._table, small=small)
        self._counts[batch] = {"rows": counted.get["rows"], "positives": counted.get["positives"]}

    def _set_checksums(self, rows: DataFrame) -> None:
        if self.leaves_checksums != self._has_left_checksums:
            self._has_left_checksums = self.leaves_checksums
            # Of the session of the batches, which Spark has cloned for the query.
            rows.sparkSession.conf.set(CHECKSUM_FILES, self.leaves_checksums)

    def _size_of(self, batch: int) -> float:
        """Offsets in a batch; without end where its plan alone does not say."""
        folder, topic = checkpoint(self._settings), self._settings.topic
        end, start = (planned_offsets(folder, number, topic) for number in (batch, batch - 1))
        if end is None or start is None:
            return math.inf
        return sum(until - start.get(part, 0) for part, until in end.items())

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
        with _explained():
            return has_rows(self._settings, start, end)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Also what delta-rs and pyarrow raise."""
    try:
        with explained():
            yield
    except (OSError, DeltaError, pa.ArrowException) as error:
        raise explain(f"{type(error).__name__}: {error}") from error


def _counts(written: Written) -> dict[str, Any]:
    """What a batch's report lacks; Spark counts its messages twice where it reads them again."""
    return {
        "messages": written.rows + written.bad,
        "rows": written.rows,
        "positives": written.positives,
        "bad": written.bad,
        "median_sent_at": median(written.sent) / 1000 if written.sent else None,
    }
