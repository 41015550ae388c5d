"""Each kind of message on literal bytes: a tweet, or a dead letter with its reason, never an exception."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from sentiment_assets.streaming.parsing import MAX_TEXT_CHARACTERS, Reason, parse

pytestmark = pytest.mark.spark

_KAFKA = "key binary, value binary, topic string, partition int, offset bigint, timestamp timestamp"
_SENT = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


def kafka_rows(spark: SparkSession, values: Sequence[bytes | None]) -> DataFrame:
    rows = [
        (b"k", None if value is None else bytearray(value), "tweets", 0, offset, _SENT)
        for offset, value in enumerate(values)
    ]
    return spark.createDataFrame(rows, _KAFKA).coalesce(1)


def parsed(spark: SparkSession, *values: bytes | None) -> list[Row]:
    rows = parse(kafka_rows(spark, values)).orderBy("offset").collect()
    assert [row.offset for row in rows] == list(range(len(values)))
    return rows


def deep(levels: int) -> bytes:
    return b'{"text":"hi","d":' + b"[" * levels + b"]" * levels + b"}"


DEAD: dict[str, tuple[bytes | None, Reason]] = {
    "null": (None, Reason.NULL),
    "no bytes": (b"", Reason.NOT_JSON),
    "blanks": (b"  \n ", Reason.NOT_JSON),
    "plain text": (b"hello there", Reason.NOT_JSON),
    "truncated": (b'{"text":"hi', Reason.NOT_JSON),
    "raw control character": (b'{"text":"a\x01b"}', Reason.NOT_JSON),
    "bad escape": (b'{"text":"\\x41"}', Reason.NOT_JSON),
    "byte order mark": (b'\xef\xbb\xbf{"text":"hi"}', Reason.NOT_JSON),
    "5,000 levels": (deep(5000), Reason.NOT_JSON),
    "only open brackets": (b"[" * 100_000, Reason.NOT_JSON),
    "only open braces": (b'{"text":' * 100_000, Reason.NOT_JSON),
    "5,000 digits": (b'{"text":"hi","id":' + b"9" * 5000 + b"}", Reason.NOT_JSON),
    "latin-1": ('{"text":"caf\xe9"}'.encode("latin-1"), Reason.NOT_UTF8),
    "utf-16": ('{"text":"hi"}'.encode("utf-16"), Reason.NOT_UTF8),
    "raw surrogate": (b'{"text":"\xed\xa0\x80"}', Reason.NOT_UTF8),
    "array": (b"[1]", Reason.NOT_AN_OBJECT),
    "array of an object": (b'[{"text":"hi"}]', Reason.NOT_AN_OBJECT),
    "number": (b"5", Reason.NOT_AN_OBJECT),
    "string": (b'"hi"', Reason.NOT_AN_OBJECT),
    "null literal": (b"null", Reason.NOT_AN_OBJECT),
    "no text": (b'{"id":"1"}', Reason.NO_TEXT),
    "null text": (b'{"text":null}', Reason.NO_TEXT),
    "upper-case name": (b'{"TEXT":"hi"}', Reason.NO_TEXT),
    "text in another object": (b'{"data":{"text":"hi"}}', Reason.NO_TEXT),
    "text is a number": (b'{"text":5}', Reason.NOT_A_STRING),
    "text is a float": (b'{"text":-1.5e3}', Reason.NOT_A_STRING),
    "text is a huge float": (b'{"text":1e999999999}', Reason.NOT_A_STRING),
    "text is true": (b'{"text":true}', Reason.NOT_A_STRING),
    "text is an object": (b'{"text":{"a":1}}', Reason.NOT_A_STRING),
    "text is an array": (b'{"text":["hi"]}', Reason.NOT_A_STRING),
    "text is not a number": (b'{"text":NaN}', Reason.NOT_JSON),
    "message is a number": (b'{"message":5}', Reason.NOT_A_STRING),
    "empty": (b'{"text":""}', Reason.EMPTY),
    "white space": (b'{"text":" \\t\\n "}', Reason.EMPTY),
    "1 MB": (b'{"text":"' + b"z" * 1_000_000 + b'"}', Reason.TOO_LONG),
}

GOOD: dict[str, tuple[bytes, str]] = {
    "ascii": (b'{"text":"hi"}', "hi"),
    "message": (b'{"message":"hi"}', "hi"),
    "message for a null text": (b'{"text":null,"message":"hi"}', "hi"),
    "text before message": (b'{"text":"hi","message":"ho"}', "hi"),
    "emoji": ('{"text":"hi \U0001f600"}'.encode(), "hi \U0001f600"),
    "escaped emoji": (b'{"text":"\\ud83d\\ude00"}', "\U0001f600"),
    "right to left": ('{"text":"שלום"}'.encode(), "שלום"),
    "lone surrogate": (b'{"text":"a\\ud800b"}', "a?b"),
    "NUL": (b'{"text":"a\\u0000b"}', "a\0b"),
    "a text of digits": (b'{"text":"5"}', "5"),
    "a text like a list": (b'{"text":"[1]"}', "[1]"),
    "a text like an object": (b'{"text":"{\\"a\\":1}"}', '{"a":1}'),
    "the text true": (b'{"text":"true"}', "true"),
    "key twice": (b'{"text":"a","text":"b"}', "b"),
    "garbage behind": (b'{"text":"hi"} garbage', "hi"),
    "900 levels": (deep(900), "hi"),
    "a corrupt column of its own": (b'{"text":"hi","_corrupt":"x"}', "hi"),
    "the longest text": (b'{"text":"' + b"z" * MAX_TEXT_CHARACTERS + b'"}', "z" * MAX_TEXT_CHARACTERS),
}


def test_every_kind_of_bad_message_is_a_dead_letter_with_its_reason(spark: SparkSession) -> None:
    rows = parsed(spark, *(value for value, _ in DEAD.values()))
    assert {kind: row.reason for kind, row in zip(DEAD, rows, strict=True)} == {
        kind: str(reason) for kind, (_, reason) in DEAD.items()
    }


def test_a_dead_letter_keeps_the_bytes_it_came_with(spark: SparkSession) -> None:
    (row,) = parsed(spark, b"\xff\x00hi")
    assert (bytes(row.key), bytes(row.value)) == (b"k", b"\xff\x00hi")
    assert row.kafka_timestamp.astimezone(UTC) == _SENT


def test_a_time_that_a_producer_invents_stays_within_what_every_reader_can_hold(spark: SparkSession) -> None:
    micros = 1_700_000_000_000_000_000  # what microseconds give that are taken for milliseconds
    far = kafka_rows(spark, [b'{"text":"hi"}']).withColumn("timestamp", F.timestamp_micros(F.lit(micros)))
    (row,) = parse(far).collect()
    assert row.kafka_timestamp.astimezone(UTC) == datetime(9999, 12, 31, tzinfo=UTC)


def test_every_kind_of_good_message_keeps_its_text(spark: SparkSession) -> None:
    rows = parsed(spark, *(value for value, _ in GOOD.values()))
    assert {kind: (row.text, row.reason) for kind, row in zip(GOOD, rows, strict=True)} == {
        kind: (text, None) for kind, (_, text) in GOOD.items()
    }


FIELDS: list[tuple[str, object, object]] = [
    ("id", 9223372036854775808123, "9223372036854775808123"),
    ("id", "abc", "abc"),
    ("id", None, None),
    ("author", "ann", "ann"),
    ("author", 7, "7"),
    ("created_at", "2009-06-14T10:11:12Z", datetime(2009, 6, 14, 10, 11, 12, tzinfo=UTC)),
    ("created_at", "2009-06-14T10:11:12.345+02:00", datetime(2009, 6, 14, 8, 11, 12, 345000, tzinfo=UTC)),
    ("created_at", "2009-06-14", datetime(2009, 6, 14, tzinfo=UTC)),
    ("created_at", "yesterday", None),
    ("created_at", "2009-13-45T99:00:00Z", None),
    ("created_at", "10:30", None),
    ("created_at", "0001-01-01T00:00:00Z", None),
    ("created_at", "9999-12-30T23:59:59Z", datetime(9999, 12, 30, 23, 59, 59, tzinfo=UTC)),
    ("created_at", "9999-12-31T23:59:59-18:00", None),
    ("created_at", 1244974272, None),
    ("created_at", {"a": 1}, None),
]


def test_optional_fields_are_read_or_null(spark: SparkSession) -> None:
    rows = parsed(spark, *(json.dumps({"text": "hi", field: value}).encode() for field, value, _ in FIELDS))
    columns = {"id": "tweet_id", "author": "author", "created_at": "created_at"}
    read = [
        (field, value, _aware(row[columns[field]]))
        for (field, value, _), row in zip(FIELDS, rows, strict=True)
    ]
    assert read == FIELDS
    assert {row.reason for row in rows} == {None}


def test_random_and_mutated_bytes_never_raise(spark: SparkSession) -> None:
    """Hypothesis makes the messages, one Spark job reads them all: a job for each would take minutes."""
    values = [*_examples(_ANY_JSON, 150), *_examples(st.binary(max_size=60), 150)]
    values += [value[: len(value) // 2] + b"\xc3" + value[len(value) // 2 :] for value in values[:100]]
    rows = parsed(spark, *values)
    for value, row in zip(values, rows, strict=True):
        assert (row.reason is None) == (_scorable(value) is not None), (value, row.reason)
        if row.reason is None:
            assert row.text == _scorable(value)


def _aware(value: object) -> object:
    """PySpark gives timestamps in local time without a zone."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
_ANY_JSON = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "message", "id", "created_at", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value, ensure_ascii=True).encode())


def _examples(strategy: st.SearchStrategy[bytes], count: int) -> list[bytes]:
    found: list[bytes] = []

    @seed(2000)
    @settings(
        max_examples=count, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def collect(value: bytes) -> None:
        found.append(value)

    collect()
    return found


def _scorable(value: bytes) -> str | None:
    """The same rules in a few lines of Python: the text, or ``None`` for a dead letter."""
    try:
        tweet: Any = json.loads(value.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(tweet, dict):
        return None
    text = tweet.get("text")
    text = tweet.get("message") if text is None else text
    if not isinstance(text, str) or not text.strip(" \t\n\x0b\f\r"):
        return None
    return text
