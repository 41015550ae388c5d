"""Warm-up: the first micro-batch of a new JVM costs 8 to 12 s (classes, JIT), so made-up ones go before it.

They take the same plan through a streaming query into a scratch Delta table, and Kafka's consumer reads what the
topic has last. Nothing of it reaches the real tables.
Does not belong here: the plan (``query``).
"""

import json
import logging
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.runtime.files import remove_folder
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.jvm import jvm
from sentiment_assets.streaming.query import kafka_options, predictions
from sentiment_assets.streaming.serving import Served

log = logging.getLogger(__name__)

_WARM = "sentiment.warm"
_ROWS = 2_000
_KAFKA_ROWS = 500
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
    """Run made-up messages through the plan of :func:`~..query.predictions`, once in the life of a JVM.

    Parameters
    ----------
    available
        First and next offset of each partition of the topic.
    """
    system = jvm(spark).java.lang.System
    if system.getProperty(_WARM) is not None:
        return
    # Where the tables are: a cluster's executors write there, and nowhere on the driver's disk.
    scratch = settings.storage_root / "tmp" / "warm-up"
    remove_folder(scratch)
    try:
        _stream_into(
            scratch, predictions(_made_up(spark, settings.topic), served.model, "warm-up", served.band)
        )
        _read_kafka(spark, settings, cluster, available)
        system.setProperty(_WARM, "yes")
    finally:
        remove_folder(scratch)


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


def _stream_into(scratch: Path, frame: DataFrame) -> None:
    query = (
        frame.writeStream.format("delta")
        .queryName("warm-up")
        .trigger(availableNow=True)
        .option("checkpointLocation", str(scratch / "checkpoint"))
        .option("path", str(scratch / "table"))
        .start()
    )
    query.awaitTermination()


def _read_kafka(
    spark: SparkSession, settings: Settings, cluster: Cluster, available: dict[int, tuple[int, int]]
) -> None:
    last = {p: (max(low, high - _KAFKA_ROWS), high) for p, (low, high) in available.items() if high > low}
    if not last:
        return
    (
        spark.read.format("kafka")
        .options(**kafka_options(cluster))
        .option("assign", json.dumps({settings.topic: sorted(last)}))
        .option("startingOffsets", json.dumps({settings.topic: {p: low for p, (low, _) in last.items()}}))
        .option("endingOffsets", json.dumps({settings.topic: {p: high for p, (_, high) in last.items()}}))
        .load()
        .agg(F.count("value"))
        .collect()
    )
