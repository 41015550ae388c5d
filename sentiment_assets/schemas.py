"""One source of truth for every table: column names, Spark types, comments, constraints.

From it come the Delta DDL, the column schema shown in Dagster, the checks and the docs.
Does not belong here: reading or writing tables (``spark.delta``).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql.types import StructType


@dataclass(frozen=True)
class Column:
    """One column of a table; ``type`` is a Spark SQL type name."""

    name: str
    type: str
    comment: str
    nullable: bool = True


@dataclass(frozen=True)
class Table:
    """A Delta table: its columns in order, row constraints (name -> SQL) and Delta properties.

    ``local_properties`` are for a table on this machine, beside the others or in their place. ``repeated``: columns
    with few values in a file, worth a dictionary.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    constraints: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    local_properties: dict[str, str] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()

    @property
    def column_names(self) -> list[str]:
        """Column names in table order."""
        return [column.name for column in self.columns]

    def spark_schema(self) -> "StructType":
        """The Spark schema, nullability and comments included (starts no JVM)."""
        from pyspark.sql.types import StructType

        parts = [
            {
                "name": c.name,
                "type": _JSON_TYPES[c.type],
                "nullable": c.nullable,
                "metadata": {"comment": c.comment},
            }
            for c in self.columns
        ]
        return StructType.fromJson({"type": "struct", "fields": parts})


_JSON_TYPES = {
    "STRING": "string",
    "INT": "integer",
    "BIGINT": "long",
    "DOUBLE": "double",
    "BINARY": "binary",
    "TIMESTAMP": "timestamp",
    "BOOLEAN": "boolean",
}

RAW_TWEETS = Table(
    "raw_tweets",
    "Labelled tweets as the source gives them, Sentiment140's six columns.",
    (
        Column("target", "INT", "Label of the source: 0 negative, 4 positive.", nullable=False),
        Column("tweet_id", "STRING", "Id of the tweet; some ids occur twice in the source."),
        Column(
            "date", "STRING", "Date as text, for example 'Mon Apr 06 22:19:45 PDT 2009'. Never a feature."
        ),
        Column("flag", "STRING", "Query of the source, mostly NO_QUERY. Never a feature."),
        Column("author", "STRING", "Account that wrote the tweet. Never a feature."),
        Column("text", "STRING", "Text of the tweet, raw.", nullable=False),
    ),
    constraints={"known_label": "target IN (0, 4)"},
)

REJECTED_ROWS = Table(
    "rejected_rows",
    "Rows of the source that could not be used, kept aside with the reason.",
    (
        Column("reason", "STRING", "Why the row was not used.", nullable=False),
        Column("row", "STRING", "The row as read.", nullable=False),
    ),
)

_LABELLED = (
    Column("tweet_id", "STRING", "Id of the tweet."),
    Column("author", "STRING", "Account that wrote the tweet."),
    Column("label", "DOUBLE", "0.0 negative, 1.0 positive.", nullable=False),
    Column(
        "text_key",
        "STRING",
        "Hash of the normalised text; equal for texts that differ only in form.",
        nullable=False,
    ),
)

CLEANED_TWEETS = Table(
    "cleaned_tweets",
    "Deduplicated labelled tweets; the text itself stays raw, cleaning is a stage of each model.",
    (*_LABELLED, Column("text", "STRING", "Text of the tweet, raw.", nullable=False)),
    constraints={"binary_label": "label IN (0.0, 1.0)"},
)

TRAIN_TWEETS = Table(
    "train_tweets",
    "Rows that models are fitted on.",
    CLEANED_TWEETS.columns,
    constraints=CLEANED_TWEETS.constraints,
)

TEST_TWEETS = Table(
    "test_tweets",
    "Rows no model is fitted on: half 'selection' ranks candidates, half 'report' is only reported.",
    (
        *_LABELLED,
        Column("half", "STRING", "'selection' or 'report'.", nullable=False),
        Column("text", "STRING", "Text of the tweet, raw.", nullable=False),
    ),
    constraints={**CLEANED_TWEETS.constraints, "known_half": "half IN ('selection', 'report')"},
)

FIRST_MOMENT = "0001-01-03T00:00:00Z"
LAST_MOMENT = "9999-12-31T00:00:00Z"
"""Earlier and later times are none that every reader of the tables can hold; a producer's clock may claim any."""

# Readers without a JVM (delta-rs) need the basic reader features: no deletion vectors, no column mapping.
# Elsewhere than on this machine: a checkpoint every 200 commits instead of every 10 spares the stream a stall of 2-8 s.
_STREAM_PROPERTIES = {
    "delta.checkpointInterval": "200",
    "delta.enableDeletionVectors": "false",
    "delta.logRetentionDuration": "interval 7 days",
}
_LOCAL_STREAM_PROPERTIES = {
    # How long checkpoints remember replaced files; a week of a stream's would stall it (``lake.cleaning``).
    "delta.deletedFileRetentionDuration": "interval 1 hours",
    # Never: the first of a JVM takes 4 s in which nothing is scored, so they are written beside it (``lake.log``).
    "delta.checkpointInterval": "1000000000",
}

PREDICTIONS = Table(
    "predictions",
    "One row per scored message, exactly once by (topic, partition, offset).",
    (
        Column("tweet_id", "STRING", "Id of the tweet, where the message has one."),
        Column("author", "STRING", "Account that wrote the tweet."),
        Column("created_at", "TIMESTAMP", "When the tweet was written, where the message says so."),
        Column(
            "sentiment",
            "STRING",
            "'positive' or 'negative'; 'neutral' where a band is asked for.",
            nullable=False,
        ),
        Column("probability", "DOUBLE", "P(positive) by the model.", nullable=False),
        Column("model_version", "STRING", "Version of the model that scored the row.", nullable=False),
        Column("topic", "STRING", "Kafka topic.", nullable=False),
        Column("partition", "INT", "Kafka partition.", nullable=False),
        Column("offset", "BIGINT", "Kafka offset.", nullable=False),
        Column("kafka_timestamp", "TIMESTAMP", "When Kafka took the message.", nullable=False),
        Column("scored_at", "TIMESTAMP", "When its scoring began.", nullable=False),
        Column("text", "STRING", "Text of the tweet, raw.", nullable=False),
    ),
    constraints={
        "probability_range": "probability BETWEEN 0 AND 1",
        "known_sentiment": "sentiment IN ('positive', 'neutral', 'negative')",
    },
    # Statistics of what rows are looked up by; min and max of free text and of random ids cost much and tell nothing.
    properties={
        **_STREAM_PROPERTIES,
        "delta.dataSkippingStatsColumns": (
            "created_at,model_version,topic,partition,offset,kafka_timestamp,scored_at"
        ),
    },
    local_properties=_LOCAL_STREAM_PROPERTIES,
    repeated=("sentiment", "model_version", "topic", "partition", "kafka_timestamp", "scored_at"),
)

DEAD_LETTERS = Table(
    "dead_letters",
    "Messages that could not be scored, with the reason, exactly once by (topic, partition, offset).",
    (
        Column("topic", "STRING", "Kafka topic.", nullable=False),
        Column("partition", "INT", "Kafka partition.", nullable=False),
        Column("offset", "BIGINT", "Kafka offset.", nullable=False),
        Column("kafka_timestamp", "TIMESTAMP", "When Kafka took the message.", nullable=False),
        Column("reason", "STRING", "Why it could not be scored.", nullable=False),
        Column("seen_at", "TIMESTAMP", "When it was put aside.", nullable=False),
        Column("key", "BINARY", "Key of the message, as received."),
        Column("value", "BINARY", "Value of the message, as received; null for a tombstone."),
    ),
    properties={**_STREAM_PROPERTIES, "delta.dataSkippingNumIndexedCols": "6"},
    local_properties=_LOCAL_STREAM_PROPERTIES,
)

TABLES = {
    table.name: table
    for table in (
        RAW_TWEETS,
        REJECTED_ROWS,
        CLEANED_TWEETS,
        TRAIN_TWEETS,
        TEST_TWEETS,
        PREDICTIONS,
        DEAD_LETTERS,
    )
}
