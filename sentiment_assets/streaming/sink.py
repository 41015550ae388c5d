"""Where the predictions query writes: each micro-batch one append to the table, exactly once.

Delta's own streaming sink asks before each batch which batch the table has, and Delta 4.4 answers by reading its whole
log with three Spark jobs: 0.35 of the 0.75 s of a batch at 1,000 messages a second. Only one batch can be in the table
without being recorded in the checkpoint: the last one that was planned when the stream before ended. So this sink looks
once, and into the table itself: Delta commits all rows of a batch or none, and an offset is never scored twice.

That is enough where no other writer can come between, which the stream's lock ensures on this machine's disks. For an
object store, which several machines share, Delta's sink stays: there its transaction is what keeps a second writer out.
Does not belong here: the plan (``query``), positions (``positions``).
"""

import logging

import pyarrow as pa
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame
from pyspark.sql.streaming.readwriter import DataStreamWriter

from sentiment_assets.failures import StreamError
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings, is_local
from sentiment_assets.streaming.audit import has_rows
from sentiment_assets.streaming.causes import explain, explained
from sentiment_assets.streaming.positions import unrecorded_batch

log = logging.getLogger(__name__)


class Sink:
    """The sink of one query; make it with the stream's lock held, when checkpoint and table are mended.

    Attributes
    ----------
    failure
        Why a batch could not be written, which ends the query.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._table = settings, settings.table(PREDICTIONS.name)
        self._unrecorded = unrecorded_batch(settings)
        self.failure: StreamError | None = None

    def of(self, writer: DataStreamWriter) -> DataStreamWriter:
        """The writer with this sink."""
        if is_local(self._table):
            return writer.foreachBatch(self._append)
        return writer.format("delta").outputMode("append").option("path", str(self._table))

    def _append(self, rows: DataFrame, batch: int) -> None:
        try:
            if not self._has(batch):
                with explained():
                    rows.write.format("delta").mode("append").save(str(self._table))
        except (OSError, DeltaError, pa.ArrowException) as error:
            self.failure = explain(f"{type(error).__name__}: {error}")
            raise self.failure from error
        except StreamError as error:
            self.failure = error
            raise

    def _has(self, batch: int) -> bool:
        """Whether the table has the rows of a batch that was planned before this query began."""
        planned, self._unrecorded = self._unrecorded, None
        if planned is None or planned.number != batch:
            return False
        found = has_rows(self._settings, planned.start, planned.end)
        if found:
            log.info("The table has batch %d already; it is recorded now.", batch)
        return found
