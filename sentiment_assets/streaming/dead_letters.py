"""Dead letters: messages that cannot be scored, put aside whole, each exactly once.

Whoever writes a batch counts them, workers or an observation of Spark's; only the offset ranges that hold some are read
a second time, by a batch job beside the stream. A position file says up to where dead letters are complete. It may lag
behind after a crash; then what the table already has is left out of the range read again. A second streaming query
would have to read all of the topic to move its checkpoint on.
Does not belong here: which message is one (``parsing``), when to catch up (``lease``).
"""

import json
import logging

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.schemas import DEAD_LETTERS
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.causes import explained
from sentiment_assets.streaming.parsing import parse
from sentiment_assets.streaming.positions import (
    Offsets,
    read_dead_letter_position,
    write_dead_letter_position,
)
from sentiment_assets.streaming.progress import Batch
from sentiment_assets.streaming.query import kafka_options

log = logging.getLogger(__name__)


class DeadLetters:
    """Keeps the dead letters of one lease complete.

    Parameters
    ----------
    spark, settings, cluster
        Where to read and write.
    pair_id
        Of the pair of checkpoint and table; a position file of another pair is not believed.
    first
        Where the stream began to read each partition.
    """

    def __init__(
        self, spark: SparkSession, settings: Settings, cluster: Cluster, pair_id: str, first: Offsets
    ) -> None:
        self._spark, self._settings, self._cluster, self._pair_id = spark, settings, cluster, pair_id
        self._saved = read_dead_letter_position(settings, pair_id)
        self._complete = dict(first) if self._saved is None else dict(self._saved)
        self._end = dict(self._complete)
        self._written_before = True
        self._uncertain = False

    @property
    def due(self) -> bool:
        """Whether some message behind the position is, or may be, a dead letter."""
        return self._uncertain

    def resume(self, committed: Offsets) -> None:
        """Begin a lease: what an earlier one committed beyond the position has to be read again."""
        self._end.update(committed)
        self._uncertain = any(end > self._complete.get(part, 0) for part, end in committed.items())
        if not self._uncertain:
            self._written_before = False

    def note(self, batch: Batch) -> None:
        """Take a committed batch into account; one whose count is unknown, or a batch never heard of, may hold some."""
        # Spark keeps a hundred reports: after a long silence the oldest are gone.
        missed = any(begin != self._end.get(part, begin) for part, begin in batch.start.items())
        self._end.update(batch.end)
        unknown = batch.bad is None and batch.end != batch.start
        if missed or unknown or (batch.bad or 0) > 0:
            self._uncertain = True
        if not self._uncertain:
            self._complete = dict(self._end)

    def save(self) -> None:
        """Record the position, if it moved.

        Raises
        ------
        OSError
            When the disk is full.
        """
        if self._complete != self._saved:
            write_dead_letter_position(self._settings, self._pair_id, self._complete)
            self._saved = dict(self._complete)

    def catch_up(self, available: dict[int, tuple[int, int]]) -> int:
        """Write the dead letters up to the last committed batch.

        Parameters
        ----------
        available
            First and next offset by partition that the topic still has.

        Returns
        -------
        int
            Rows written.

        Raises
        ------
        StreamError
            When Kafka or the table fails.
        """
        start, end = {}, {}
        for partition, until in self._end.items():
            since = self._complete.get(partition, 0)
            kept = max(since, available.get(partition, (since, until))[0])
            if kept > since:
                log.warning(
                    "Offsets %d to %d of partition %d are gone", since, min(kept, until) - 1, partition
                )
            if kept < until:
                start[partition], end[partition] = kept, until
        written = self._write(start, end) if start else 0
        self._complete = dict(self._end)
        self._uncertain = False
        self._written_before = False
        self.save()
        return written

    def _write(self, start: Offsets, end: Offsets) -> int:
        table = str(self._settings.table(DEAD_LETTERS.name))
        with explained():
            bad = self._read(start, end)
            if self._written_before:
                known = self._spark.read.format("delta").load(table).select("topic", "partition", "offset")
                bad = bad.join(known, ["topic", "partition", "offset"], "left_anti")
            counted = Observation("dead letters")
            rows = bad.select(DEAD_LETTERS.column_names).observe(counted, F.count(F.lit(1)).alias("rows"))
            rows.write.format("delta").mode("append").save(table)
            return int(counted.get["rows"])

    def _read(self, start: Offsets, end: Offsets) -> DataFrame:
        topic = self._settings.topic
        messages = (
            self._spark.read.format("kafka")
            .options(**kafka_options(self._cluster))
            .option("assign", json.dumps({topic: sorted(start)}))
            .option("startingOffsets", json.dumps({topic: start}))
            .option("endingOffsets", json.dumps({topic: end}))
            .load()
        )
        return parse(messages).where("reason IS NOT NULL").withColumn("seen_at", F.current_timestamp())
