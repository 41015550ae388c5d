"""Causes as Spark 4.2, Kafka 3.9 and Delta 4.4 word them when one breaks the thing on purpose."""

import pytest

from sentiment_assets.streaming.causes import explain

_QUERY = "Caused by: org.apache.spark.sql.streaming.StreamingQueryException: "
_KAFKA = f"{_QUERY}x\nCaused by: org.apache.kafka.common.errors."
_TASK = f"{_QUERY}[TASK_WRITE_FAILED] Task failed while writing rows to file:/home/lake/predictions. SQLSTATE: 58030"


@pytest.mark.parametrize(
    ("trace", "what", "next_step"),
    [
        (
            f"{_TASK}\nCaused by: java.io.IOException: No space left on device",
            "The disk is full (No space left on device).",
            "Free some disk",
        ),
        (
            f"{_TASK}\nCaused by: java.lang.ArithmeticException: long overflow",
            "A message of the topic has a time that Spark cannot hold (",
            "message.timestamp.after.max.ms",
        ),
        (
            f"{_QUERY}org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment.",
            "The Kafka broker does not answer (",
            "kafka start",
        ),
        (
            "TimeoutException: failed to stop within 30000 ms (specified by spark.sql.streaming.stopTimeout).",
            "The batch under way did not end in time, so its JVM was halted (",
            "Start the stream again",
        ),
        (
            f"{_KAFKA}SaslAuthenticationException: Authentication failed: Invalid username or password",
            "The Kafka cluster refuses the login (Authentication failed: Invalid username or password).",
            "SENTIMENT_KAFKA_SASL_MECHANISM",
        ),
        (
            f"{_KAFKA}SslAuthenticationException: x\nCaused by: sun.ValidatorException: PKIX path building failed",
            "The TLS connection to the Kafka cluster fails (PKIX path building failed).",
            "SENTIMENT_KAFKA_SSL_CA_LOCATION",
        ),
        (
            f"{_KAFKA}TopicAuthorizationException: Not authorized to access topics: [tweets]",
            "The Kafka cluster does not allow its user to do this (Not authorized to access topics: [tweets]).",
            "docs/kafka.md",
        ),
        (
            f"{_QUERY}Failed to read log file file:/home/checkpoints/predictions/commits/5. Incomplete log file",
            "The checkpoint of the stream is damaged (",
            "reset --stream",
        ),
        (
            f"{_QUERY}x\nCaused by: com.fasterxml.jackson.core.io.JsonEOFException: Unexpected end-of-input",
            "The checkpoint of the stream is damaged (",
            "reset --stream",
        ),
        (
            f"{_QUERY}x\nCaused by: org.apache.hadoop.fs.ChecksumException: Checksum error: file:/home/offsets/5",
            "The checkpoint of the stream is damaged (",
            "reset --stream",
        ),
        (
            f"{_TASK}\nCaused by: java.lang.IllegalStateException: Cannot fetch 5. Some data may have been lost",
            "Kafka no longer has messages that were not scored yet",
            "reset --stream",
        ),
        (
            f"{_TASK}\nCaused by: java.lang.OutOfMemoryError: Java heap space",
            "The Spark JVM ran out of memory (Java heap space).",
            "SENTIMENT_STREAM_MEMORY",
        ),
        (
            f"{_QUERY}[DELTA_CONCURRENT_APPEND] ConcurrentAppendException: Files were added",
            "The table was changed or removed by something else",
            "Let no other process write it",
        ),
        (
            "Py4JError: An error occurred while calling o1096.isActive",
            "The Spark JVM is gone (killed",
            "Start the stream again",
        ),
        (
            "ConnectionRefusedError: [Errno 111] Connection refused",
            "The Spark JVM is gone (killed",
            "Start the stream again",
        ),
        (f"{_QUERY}something new", "The streaming query failed (something new).", "spark-stream.log"),
        ("", "The streaming query failed (no message).", "spark-stream.log"),
    ],
)
def test_a_cause_is_named_in_one_sentence_with_its_next_step(trace: str, what: str, next_step: str) -> None:
    error = explain(trace)
    assert error.what.startswith(what)
    assert next_step in error.next_step
    assert "\n" not in str(error)


def test_a_long_cause_is_cut() -> None:
    assert len(explain(f"Caused by: java.lang.Error: {'x' * 10_000}").what) < 400
