"""Warm-up: the first micro-batch of a new JVM costs 8 to 12 s (classes, JIT), so others go before it.

What the topic has last, and made-up messages where that is too little, takes the same way as later, from Kafka through
the plan into a table, but a scratch one.
Does not belong here: the plan (``query``), how a batch is written (``sink``).
"""

import logging
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.lake.commits import Appender
from sentiment_assets.runtime.files import remove_folder
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import ensure_table
from sentiment_assets.streaming.causes import explained
from sentiment_assets.streaming.jvm import jvm
from sentiment_assets.streaming.query import predictions, read_topic
from sentiment_assets.streaming.serving import Served
from sentiment_assets.streaming.writing import append, is_ours, scoring_by_workers, write_files

log = logging.getLogger(__name__)

_WARM = "sentiment.warm"
_ROWS = 2_000
_KAFKA_ROWS = 1_500
_ENOUGH_ROWS = 300
_BATCHES = 2
"""The second runs code that the first does not: Delta goes on from its state. A new model waits for the end of them."""
_WORDS = (
    "the",
    "not",
    "a",
    "but",
    "i",
    "love",
    "http://t.co/x",
    "@you",
    "&amp;",
    "soooo",
    "happy",
    ":)",
    "sad",
)


def warm_up(
    spark: SparkSession,
    settings: Settings,
    cluster: Cluster,
    served: Served,
    available: dict[int, tuple[int, int]],
) -> None:
    """Run messages the way that the stream's batches take, once in the life of a JVM.

    Parameters
    ----------
    available
        First and next offset of each partition of the topic.

    Raises
    ------
    StreamError
        When the topic cannot be read or the scratch table not be written.
    """
    system = jvm(spark).java.lang.System
    if system.getProperty(_WARM) is not None:
        return
    # Where the tables are: a cluster's executors write there, and nowhere on the driver's disk.
    scratch = settings.storage_root / "tmp" / "warm-up"
    last = {p: max(low, high - _KAFKA_ROWS // len(available)) for p, (low, high) in available.items()}
    rows = sum(available[p][1] - first for p, first in last.items())
    remove_folder(scratch)
    try:
        if rows < _ENOUGH_ROWS:
            rehearse(spark, settings, served, scratch / "made-up")
        if rows:
            at_most = max(rows // _BATCHES, len(available))
            messages = read_topic(spark, settings, cluster, at_most=at_most, start=last)
            _stream_into(scratch / "read", messages, settings, served)
        system.setProperty(_WARM, "yes")
    finally:
        remove_folder(scratch)


def rehearse(spark: SparkSession, settings: Settings, served: Served, scratch: Path) -> None:
    """Score made-up messages in one batch, and write them into ``scratch``, where a second call goes on."""
    _stream_into(scratch, _made_up(spark, settings.topic), settings, served)


def _made_up(spark: SparkSession, topic: str) -> DataFrame:
    """Messages of random words, in the shape of the Kafka source."""
    words = F.array(*(F.lit(word) for word in _WORDS))
    text = F.concat_ws(
        " ", *(F.element_at(words, 1 + (F.col("value") * n % len(_WORDS)).cast("int")) for n in range(1, 16))
    )
    value = F.to_json(F.struct(F.col("value").cast("string").alias("id"), text.alias("text")))
    ticks = (
        spark.readStream.format("rate-micro-batch")
        .option("rowsPerBatch", _ROWS)
        .option("numPartitions", 2)
        .load()
    )
    return ticks.select(
        F.lit(None).cast("binary").alias("key"),
        value.cast("binary").alias("value"),
        F.lit(topic).alias("topic"),
        F.lit(0).alias("partition"),
        F.col("value").alias("offset"),
        "timestamp",
    )


def _stream_into(scratch: Path, messages: DataFrame, settings: Settings, served: Served) -> None:
    """Score messages by a streaming query that writes as the real one does."""
    table, scoring = scratch / "table", scoring_by_workers(settings, served)
    frame = messages if scoring else predictions(messages, served.model, served.version, served.band)
    writer = (
        frame.writeStream.queryName("warm-up")
        .trigger(availableNow=True)
        .option("checkpointLocation", str(scratch / "checkpoint"))
    )
    if is_ours(settings):
        appender = Appender(table)
        if scoring:
            ensure_table(table, PREDICTIONS)

        def write(rows: DataFrame, number: int) -> None:
            # The query reads up to what the topic has when it starts, which may be far more than two batches.
            if number >= _BATCHES:
                return
            if scoring:
                # Both ways, that of a full batch last: what a stream does then is written once already.
                for one_file in (True, False):
                    written = write_files(
                        rows, scoring, table, one_file=one_file, read_by_workers=served.read_by_workers
                    )
                    appender.append(written.files)
            else:
                append(rows, table, small=True)

        writer = writer.foreachBatch(write)
    else:
        writer = writer.format("delta").option("path", str(table))
    with explained():
        writer.start().awaitTermination()
