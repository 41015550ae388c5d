"""Kafka rows to tweets: which message can be scored, and why another cannot.

Every message becomes either a tweet or a dead letter with one of the reasons below; none raises, whatever its
bytes are. Spark SQL only, no UDF. Of plain messages in large batches
``spark.compiled.messages`` must say the same.
Does not belong here: reading Kafka (``query``), scoring (``spark.scoring``).
"""

from enum import StrEnum

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sentiment_assets.schemas import FIRST_MOMENT, LAST_MOMENT

MAX_TEXT_CHARACTERS = 100_000
"""Longest text that is scored, in Unicode code points: 350 times the longest tweet of 280 characters."""


class Reason(StrEnum):
    """Why a message is a dead letter."""

    NULL = "null value (tombstone)"
    NOT_UTF8 = "not UTF-8"
    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "JSON, but not an object"
    NO_TEXT = "text is missing"
    NOT_A_STRING = "text is not a string"
    EMPTY = "text is empty"
    TOO_LONG = f"text is longer than {MAX_TEXT_CHARACTERS:,} characters"


# All STRING: a number given as id keeps its digits, and a wrong type cannot void the whole row.
_SCHEMA = "id STRING, text STRING, message STRING, created_at STRING, author STRING, _corrupt STRING"
_OPTIONS = {"columnNameOfCorruptRecord": "_corrupt", "allowNonNumericNumbers": "false"}

# from_json renders any JSON value into a STRING column; only texts that look like one of the other
# kinds need the second, exact look at the token's type.
_LOOKS_LIKE_ANOTHER_TYPE = r'^(?:-?[0-9][0-9.eE+-]*|true|false|\{[\s\S]*\}|\[[\s\S]*\]|"-?Infinity")$'
_BEGINS_LIKE_ANOTHER_TYPE = sorted(map(ord, '-0123456789tf{["'))

_ISO_8601 = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ]|$)"


def parse(messages: DataFrame) -> DataFrame:
    """Read the JSON of each message.

    Parameters
    ----------
    messages
        Rows of Spark's Kafka source: ``key`` and ``value`` BINARY, ``topic``, ``partition``, ``offset``,
        ``timestamp``. Batch or streaming.

    Returns
    -------
    DataFrame
        ``key, value, topic, partition, offset, kafka_timestamp, tweet_id, author, created_at, text`` and
        ``reason``: null for a tweet that can be scored, else one of :class:`Reason`. ``message`` is taken
        where ``text`` is missing. ``created_at`` is null unless it is ISO 8601 of the years 1970 to 9999.

    Notes
    -----
    Of a key that occurs twice the last value counts; what follows after the object is ignored. Nesting deeper
    than 1,000 levels and numbers longer than 1,000 digits are beyond Jackson's limits and so "not JSON".
    """
    first, last = (F.lit(moment).cast("timestamp") for moment in (FIRST_MOMENT, LAST_MOMENT))
    raw = messages.select(
        "key",
        "value",
        "topic",
        "partition",
        "offset",
        # A producer's clock may claim any time; beyond these Python cannot read the row.
        F.greatest(F.least("timestamp", last), first).alias("kafka_timestamp"),
        F.col("value").cast("string").alias("json"),
    )
    read = raw.withColumn("tweet", F.from_json("json", _SCHEMA, _OPTIONS))
    return read.select(
        "key",
        "value",
        "topic",
        "partition",
        "offset",
        "kafka_timestamp",
        F.col("tweet.id").alias("tweet_id"),
        F.col("tweet.author").alias("author"),
        _timestamp(F.col("tweet.created_at")).alias("created_at"),
        _text().alias("text"),
        _reason().alias("reason"),
    )


def _text() -> Column:
    return F.coalesce("tweet.text", "tweet.message")


def _reason() -> Column:
    """The first reason that applies, in this order; null when none does."""
    text = _text()
    begins = F.ascii(text)
    rules = (
        (F.col("value").isNull(), Reason.NULL),
        (~F.expr("is_valid_utf8(value)"), Reason.NOT_UTF8),
        (F.col("tweet._corrupt").isNotNull() & _is_json_but_no_object(), Reason.NOT_AN_OBJECT),
        (F.col("tweet").isNull() | F.col("tweet._corrupt").isNotNull(), Reason.NOT_JSON),
        # A missing field sets no corrupt column: it has a rule of its own.
        (text.isNull(), Reason.NO_TEXT),
        # Cheap looks before dear ones: a regular expression copies the text, counting characters walks it.
        (
            begins.isin(_BEGINS_LIKE_ANOTHER_TYPE)
            & text.rlike(_LOOKS_LIKE_ANOTHER_TYPE)
            & _is_another_type(),
            Reason.NOT_A_STRING,
        ),
        ((begins <= ord(" ")) & ~text.rlike(r"\S"), Reason.EMPTY),
        (
            (F.octet_length(text) > MAX_TEXT_CHARACTERS) & (F.length(text) > MAX_TEXT_CHARACTERS),
            Reason.TOO_LONG,
        ),
    )
    reason = F.lit(None).cast("string")
    for condition, name in reversed(rules):
        reason = F.when(condition, F.lit(str(name))).otherwise(reason)
    return reason


def _is_json_but_no_object() -> Column:
    return ~F.col("json").rlike(r"^\s*\{") & F.expr("try_parse_json(json) IS NOT NULL")


def _is_another_type() -> Column:
    """Whether the token itself is no JSON string; false where the exact parser gives up (a key twice)."""
    of_text = F.expr("schema_of_variant(variant_get(try_parse_json(json), '$.text', 'variant'))")
    of_message = F.expr("schema_of_variant(variant_get(try_parse_json(json), '$.message', 'variant'))")
    kind = F.when(F.col("tweet.text").isNotNull(), of_text).otherwise(of_message)
    return F.coalesce(kind != "STRING", F.lit(False))


def _timestamp(created_at: Column) -> Column:
    """ISO 8601 or null: Spark itself would also read "2009" or, as of today, "10:30"."""
    parsed = F.try_to_timestamp(F.when(created_at.rlike(_ISO_8601), created_at))
    first, last = (F.lit(moment).cast("timestamp") for moment in ("1970-01-01T00:00:00Z", LAST_MOMENT))
    return F.when((parsed >= first) & (parsed < last), parsed)
