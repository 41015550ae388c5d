"""The streaming query: Kafka -> parse -> score -> the table ``predictions``, exactly once.

Belongs here: the plan and its options. Does not belong here: when it starts and ends (``lease``),
how a batch is written (``sink``).
"""

import json

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.scoring import Model, score, sentiment_expr
from sentiment_assets.streaming.parsing import parse
from sentiment_assets.streaming.positions import Offsets, checkpoint
from sentiment_assets.streaming.progress import INTAKE, SCORED
from sentiment_assets.streaming.serving import Served
from sentiment_assets.streaming.sink import Sink
from sentiment_assets.streaming.writing import scoring_by_workers

QUERY_NAME = "predictions"
_SAMPLED, _SAMPLE = 16, 32
_EVERY = "500 milliseconds"
"""A batch of few messages takes half of it: without a pause there would be twice the commits, files and work."""


def kafka_options(cluster: Cluster) -> dict[str, str]:
    """Options that every reader of the topic shares.

    ``failOnDataLoss`` stays on: messages that retention took before they were scored are an error, not a gap.
    """
    return {
        **{f"kafka.{name}": value for name, value in cluster.java().items()},
        "failOnDataLoss": "true",
        # Kafka's defaults, 1 MiB and 500 records a poll, are made for many small consumers.
        "kafka.max.partition.fetch.bytes": str(8 * 2**20),
        "kafka.max.poll.records": "10000",
        # A broker that is away for a minute, Kafka's default, need not end the stream.
        "kafka.default.api.timeout.ms": "120000",
    }


def read_topic(
    spark: SparkSession,
    settings: Settings,
    cluster: Cluster,
    *,
    at_most: int | None = None,
    start: Offsets | None = None,
) -> DataFrame:
    """The topic as a streaming DataFrame, from the checkpoint's position or else from its start.

    Parameters
    ----------
    at_most
        Most messages of one micro-batch; as the settings say when left out. Spark rounds the share of each partition
        down.
    start
        First offset by partition where there is no checkpoint, for a look that may miss what retention takes in this
        moment; ``None``: the start of the topic, and nothing may be missing.
    """
    return (
        spark.readStream.format("kafka")
        .options(**kafka_options(cluster))
        .option("failOnDataLoss", start is None)
        .option("subscribe", settings.topic)
        .option("startingOffsets", "earliest" if start is None else json.dumps({settings.topic: start}))
        .option("maxOffsetsPerTrigger", at_most or settings.max_offsets_per_trigger)
        .load()
    )


def predictions(messages: DataFrame, model: Model, version: str, band: float = 0.0) -> DataFrame:
    """Score the messages that can be scored.

    Parameters
    ----------
    messages
        Rows of Spark's Kafka source, batch or streaming.
    model, version
        What scores, and the version that each row names.
    band
        Half the width of the neutral band; 0: none.

    Returns
    -------
    DataFrame
        The columns of ``schemas.PREDICTIONS`` in their order. Messages with a reason not to be scored are counted
        (observation ``intake``) and left out.
    """
    sent = F.unix_millis("kafka_timestamp")
    # The median of all costs 3 % of a drain; a batch too small for a sample has the mean.
    sampled = F.when(F.col("offset") % _SAMPLED == 0, sent)
    median = F.when(F.count(sampled) >= _SAMPLE, F.percentile_approx(sampled, 0.5, 100))
    # The observation also keeps the optimizer from pushing the filter below the parser, which would parse twice.
    parsed = parse(messages).observe(
        INTAKE,
        F.count(F.lit(1)).alias("messages"),
        F.count("reason").alias("bad"),
        F.coalesce(median, F.avg(sent).cast("long")).alias("median_ms"),
    )
    good = parsed.where("reason IS NULL").drop("key", "value", "reason")
    scored = score(model, good).withColumns(
        {
            "sentiment": sentiment_expr(F.col("probability"), band),
            "model_version": F.lit(version),
            "scored_at": _now(),
        }
    )
    return scored.select(PREDICTIONS.column_names).observe(
        SCORED,
        F.count(F.lit(1)).alias("rows"),
        F.count_if(F.col("sentiment") == "positive").alias("positives"),
    )


def planned(messages: DataFrame, served: Served, settings: Settings) -> tuple[DataFrame, Sink]:
    """The stream's plan: from messages to what its sink takes, and the sink.

    Parameters
    ----------
    messages
        Rows of Spark's Kafka source, streaming.

    Raises
    ------
    StreamError
        As :class:`~.sink.Sink`.
    """

    def by_spark(rows: DataFrame) -> DataFrame:
        return predictions(rows, served.model, served.version, served.band)

    scoring = scoring_by_workers(settings, served)
    if scoring is None:
        return by_spark(messages), Sink(settings)
    return messages, Sink(settings, scoring, by_spark, read_by_workers=served.read_by_workers)


def _now() -> Column:
    """The batch's time, as data.

    Spark writes a plain ``current_timestamp`` as a constant into the code that it generates: other code for each batch,
    which the JVM compiles anew. What a lambda function is applied to is handed over beside the code.
    """
    return F.transform(F.array(F.current_timestamp()), lambda now: now)[0]


def start(frame: DataFrame, settings: Settings, sink: Sink) -> StreamingQuery:
    """Start writing ``frame`` to the predictions table, a batch each half second, or at once behind a longer one."""
    # By default stop() waits without end for a batch that does not react.
    frame.sparkSession.conf.set("spark.sql.streaming.stopTimeout", "30s")
    writer = frame.writeStream.queryName(QUERY_NAME).option("checkpointLocation", str(checkpoint(settings)))
    return sink.of(writer.trigger(processingTime=_EVERY)).start()
