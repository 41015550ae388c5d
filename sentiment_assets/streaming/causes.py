"""From the stack trace of a dead query to one sentence and a next step.

Belongs here: the failures an operator meets. Does not belong here: noticing them (``lease``).
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql.streaming.query import StreamingQuery

from sentiment_assets.failures import StreamError


class _Cause(NamedTuple):
    pattern: str
    what: str
    next_step: str


_GOES_ON = "the stream goes on where it stopped"
_CAUSES = (
    _Cause(
        r"spark\.sql\.streaming\.stopTimeout",
        "The batch under way did not end in time, so its JVM was halted",
        f"Start the stream again: {_GOES_ON}, that batch is scored then.",
    ),
    _Cause(
        r"^Py4JNetworkError|^Connection\w*Error|^Py4JError: An error occurred while calling [\w.]+$",
        "The Spark JVM is gone (killed, or the machine is short of memory)",
        f"Start the stream again: {_GOES_ON}. SENTIMENT_HOME/logs/spark-stream.log may say why.",
    ),
    _Cause(
        r"No space left on device|Disk quota exceeded",
        "The disk is full",
        f"Free some disk: {_GOES_ON}, nothing is lost.",
    ),
    _Cause(
        r"Read-only file system|Permission denied|AccessDeniedException",
        "A file of the stream cannot be written",
        f"Make SENTIMENT_HOME writable; {_GOES_ON}.",
    ),
    _Cause(
        r"OutOfMemoryError|GC overhead limit exceeded",
        "The Spark JVM ran out of memory",
        "Raise SENTIMENT_STREAM_MEMORY or lower SENTIMENT_MAX_OFFSETS_PER_TRIGGER.",
    ),
    _Cause(
        r"SaslAuthenticationException|UnsupportedSaslMechanismException|IllegalSaslStateException",
        "The Kafka cluster refuses the login",
        f"Check SENTIMENT_KAFKA_SASL_MECHANISM, _SASL_USERNAME and _SASL_PASSWORD; {_GOES_ON}.",
    ),
    _Cause(
        r"SslAuthenticationException|SSLHandshakeException|PKIX path",
        "The TLS connection to the Kafka cluster fails",
        f"Check SENTIMENT_KAFKA_SSL_CA_LOCATION and _SSL_KEYSTORE_LOCATION; {_GOES_ON}.",
    ),
    _Cause(
        r"(Topic|Group|Cluster)AuthorizationException",
        "The Kafka cluster does not allow its user to do this",
        f"Grant what docs/kafka.md names; {_GOES_ON}.",
    ),
    _Cause(
        r"KAFKA_DATA_LOSS|OffsetOutOfRange|data may have been lost|data was lost|aged out|offset was changed"
        r"|UnknownTopicOrPartition",
        "Kafka no longer has messages that were not scored yet (retention, or a topic made anew)",
        "Run `sentiment-assets reset --stream` to score what the topic still has.",
    ),
    _Cause(
        r"long overflow",
        "A message of the topic has a time that Spark cannot hold (nanoseconds where milliseconds belong, for one)",
        "Have the cluster refuse such times (message.timestamp.after.max.ms, Kafka's default since 3.6), remove the "
        "message from the topic (kafka-delete-records), and run `sentiment-assets reset --stream`.",
    ),
    _Cause(
        r"Incomplete log file|[Mm]alformed log|MALFORMED_|ChecksumException|Failed to read log file"
        r"|CANNOT_LOAD_CHECKPOINT|UNSUPPORTED_LOG_VERSION|batch \d+ doesn't exist|fasterxml\.jackson",
        "The checkpoint of the stream is damaged",
        "Restore SENTIMENT_HOME/checkpoints and lake from one backup, or run `sentiment-assets reset --stream`.",
    ),
    _Cause(
        r"TimeoutException|DisconnectException|KafkaAdminClient|No resolvable bootstrap|node assignment"
        r"|Connection refused|Failed to construct kafka|Failed to get metadata",
        "The Kafka broker does not answer",
        f"Start it (`sentiment-assets kafka start`) or check SENTIMENT_KAFKA_BOOTSTRAP; {_GOES_ON}.",
    ),
    _Cause(
        r"Concurrent\w*Exception|DELTA_|FileNotFoundException|NoSuchFileException|FileNotFoundError|CommitFailedError"
        r"|TableNotFoundError|Invalid table version",
        "The table was changed or removed by something else while the stream ran",
        "Let no other process write it, then start the stream again.",
    ),
)

_CAUSED_BY = re.compile(r"^Caused by: (?:[\w.$]+: )?(.+)$", re.MULTILINE)
# The last line of a Python worker's traceback.
_RAISED = re.compile(r"^((?:\w+\.)*\w+(?:Error|Exception)\b.*)$", re.MULTILINE)
_MAX_CAUSES = 20
_MAX_CHARACTERS = 300


def explain(trace: str) -> StreamError:
    """Recognise the cause of a query's death.

    Parameters
    ----------
    trace
        Message and stack trace of the exception.

    Returns
    -------
    StreamError
        One sentence with the cause in Spark's own words behind it, and the next step.
    """
    own_words = _root_cause(trace)
    for cause in _CAUSES:
        if re.search(cause.pattern, trace):
            return StreamError(f"{cause.what} ({own_words}).", cause.next_step)
    return StreamError(
        f"The streaming query failed ({own_words}).",
        f"Read the end of SENTIMENT_HOME/logs/spark-stream.log; {_GOES_ON}.",
    )


def death_of(query: StreamingQuery) -> StreamError:
    """Why a query that is no longer active ended, from the whole chain of causes.

    The chain matters: Spark's outermost message only says that a task failed while writing rows.
    """
    failure = query._jsq.exception()
    return explain("it ended by itself" if failure.isEmpty() else _chain(failure.get()))


def _chain(cause: Any) -> str:
    """What a Java throwable and all its causes say, one after the other."""
    lines: list[str] = []
    while cause is not None and len(lines) < _MAX_CAUSES:
        # Behind the message Spark prints the whole plan, whose words mean nothing here.
        lines.append("Caused by: " + str(cause.toString()).split("\n=== Streaming Query", 1)[0])
        cause = cause.getCause()
    return "\n".join(lines)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what Spark raises inside into a :class:`StreamError`.

    Raises
    ------
    StreamError
        With the cause and the next step.
    """
    try:
        yield
    except (Py4JError, PySparkException, ConnectionError) as error:
        raise explain(_words(error)) from error


def _words(error: Exception) -> str:
    """What an error of PySpark or py4j and all its causes say.

    PySpark keeps the outermost message alone, and py4j prints every frame of the stack, whose names mean nothing here.
    """
    origin = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    if origin is not None:
        # The JVM may be gone by now.
        with contextlib.suppress(Py4JError, ConnectionError):
            return f"{type(error).__name__}: {_chain(origin)}"
    return f"{type(error).__name__}: {error}"


def _root_cause(trace: str) -> str:
    _, found, traceback = trace.partition("Traceback (most recent call last):")
    if found and (raised := _RAISED.findall(traceback)):
        return str(raised[-1])[:_MAX_CHARACTERS].rstrip(". ")
    causes = _CAUSED_BY.findall(trace)
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    cause = causes[-1] if causes else (lines[0] if lines else "no message")
    return str(cause)[:_MAX_CHARACTERS].rstrip(". ")
