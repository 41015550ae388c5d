"""Produce tweets to the topic: a labelled file at a steady rate, in random order, delivered once each.

Belongs here: the message format that the stream reads, pacing, delivery.
Does not belong here: parsing files (``sources``), live sources of tweets (``sources`` too).
"""

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from sentiment_assets.failures import BrokerError, SourceError
from sentiment_assets.kafka.client import quiet, topic_id
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.sources.live import Post
from sentiment_assets.sources.sentiment140 import ENCODING, LabelledRow, iter_rows

logger = logging.getLogger(__name__)

DELIVERY_SECONDS = 60.0
"""How long a message is tried again while the broker is away; a restart after SIGKILL takes it 6 s."""

_LAST_SECONDS = 10.0
"""Who waits for a broker without end and is asked to stop waits so long for what is under way."""

MAX_MESSAGE_BYTES = 2_000_000
"""Larger messages are refused here and counted as failed; the embedded broker takes a little more."""

# What a slow consumer of the clock may catch up at once, so that a stall does not become a burst.
_BURST_SECONDS = 0.05
_PROGRESS_SECONDS = 0.5
MESSAGE_FAULTS = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD)
"""Faults of one message: the next one may pass. Anything else is a fault of the broker."""

_DATE = re.compile(r"\w{3} (\w{3}) (\d{1,2}) (\d{2}):(\d{2}):(\d{2}) ([A-Z]{3}) (\d{4})")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HOURS_FROM_UTC = {"UTC": 0, "GMT": 0, "PDT": -7, "PST": -8}


class Message(NamedTuple):
    """One Kafka record; a value of None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class ReplayResult:
    """What was produced.

    Attributes
    ----------
    sent
        Messages that the broker acknowledged.
    failed
        Messages that it can never take, such as too large ones.
    seconds
        From the first message to the last acknowledgement.
    """

    sent: int
    failed: int
    seconds: float


def idempotent(cluster: Cluster) -> dict[str, Any]:
    """Options of every producer of ours: each message once and in order, however often it is sent."""
    return quiet(cluster) | {
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "compression.type": "lz4",
        "message.max.bytes": MAX_MESSAGE_BYTES,
        # A broker that finds a batch too large refuses all its messages; a larger message is sent alone.
        "batch.size": 128 * 1024,
    }


def produce(
    messages: Iterable[Message],
    cluster: Cluster,
    topic: str,
    *,
    rate: float | None = None,
    on_progress: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    delivery_seconds: float | None = DELIVERY_SECONDS,
) -> ReplayResult:
    """Deliver messages, each once and in order within its partition (idempotent producer, ``acks=all``).

    Parameters
    ----------
    rate
        Messages a second, evenly spaced; None: as fast as the broker takes them.
    on_progress
        Called about twice a second, and at the end, with the number of messages acknowledged so far.
    stop
        When set, no further message is sent; those under way are still delivered.
    delivery_seconds
        How long a message is tried again while the broker is away; None: until it is back, or ``stop``.

    Raises
    ------
    BrokerError
        When the broker or the topic is not there, or a message was not delivered in time; says how many were.
    """
    if topic_id(cluster, topic) is None:
        raise BrokerError(
            f"Kafka at {cluster} has no topic {topic}.",
            "Create it, or set SENTIMENT_TOPIC to one that exists.",
        )
    return _Delivery(cluster, topic, on_progress, stop or threading.Event(), delivery_seconds).run(
        messages, rate
    )


def replay_file(
    path: Path,
    cluster: Cluster,
    topic: str,
    *,
    encoding: str = ENCODING,
    rate: float | None = None,
    limit: int | None = None,
    seed: int = 2000,
    on_progress: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    delivery_seconds: float | None = DELIVERY_SECONDS,
) -> ReplayResult:
    """Produce the tweets of a file in Sentiment140's format, in random order since it is sorted by label.

    Parameters
    ----------
    encoding
        ISO-8859-1 or UTF-8.
    limit
        Messages to send: fewer than the file has rows are a random sample of them; more loop over the file,
        each time in another order and with the same ids. None: each row once.
    seed
        The same seed gives the same sample and order.
    rate, on_progress, stop, delivery_seconds
        See :func:`produce`.

    Raises
    ------
    SourceError
        When the file cannot be read or has no usable row.
    BrokerError
        See :func:`produce`.
    """
    rows = iter_rows(path, encoding)
    return produce(
        (tweet_message(row) for row in shuffled(rows, limit=limit, seed=seed, name=str(path))),
        cluster,
        topic,
        rate=rate,
        on_progress=on_progress,
        stop=stop,
        delivery_seconds=delivery_seconds,
    )


def shuffled(
    rows: Iterable[LabelledRow], *, limit: int | None, seed: int, name: str = "the input", again: bool = True
) -> Iterator[LabelledRow]:
    """``limit`` rows in random order; holds no more than ``limit`` rows in memory.

    Parameters
    ----------
    again
        Begin again, in another order, when the limit is above the number of rows; else end there.

    Raises
    ------
    SourceError
        When there is no row.
    """
    if limit == 0:
        return
    # Not for secrets: reproducibility is the point.
    chance = random.Random(seed)  # noqa: S311
    kept: list[LabelledRow] = []
    for count, row in enumerate(rows):
        # Reservoir sampling (Vitter 1985, algorithm R).
        if limit is None or count < limit:
            kept.append(row)
        elif (place := chance.randrange(count + 1)) < limit:
            kept[place] = row
    if not kept:
        raise SourceError(
            f"{name} has no usable row to replay.",
            "Name a file in Sentiment140's format: six quoted columns, no header.",
        )
    left = limit if limit is not None and again else len(kept)
    while left > 0:
        chance.shuffle(kept)
        yield from kept[:left]
        left -= len(kept)


def tweet_post(row: LabelledRow, source: str = "replay") -> Post:
    """A labelled row as the post a live source would give: without its label."""
    return Post(row.tweet_id, row.text, created_at(row.date), row.author, None, "en", source)


def tweet_message(row: LabelledRow, source: str = "replay") -> Message:
    """A labelled row as the message a live source would send."""
    post = tweet_post(row, source)
    return Message(post.key(), post.value())


def created_at(date: str) -> str | None:
    """ISO 8601 in UTC of ``Mon Apr 06 22:19:45 PDT 2009``; None for anything else.

    >>> created_at("Mon Apr 06 22:19:45 PDT 2009")
    '2009-04-07T05:19:45Z'
    """
    # Not strptime: its names of months depend on the locale, and it does not know PDT.
    match = _DATE.fullmatch(date.strip())
    if match is None:
        return None
    month, day, hour, minute, second, zone, year = match.groups()
    if month not in _MONTHS or zone not in _HOURS_FROM_UTC:
        return None
    try:
        moment = datetime(
            int(year),
            _MONTHS.index(month) + 1,
            int(day),
            int(hour),
            int(minute),
            int(second),
            tzinfo=timezone(timedelta(hours=_HOURS_FROM_UTC[zone])),
        )
    except ValueError:
        return None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Delivery:
    """One run of the producer and what became of its messages."""

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        on_progress: Callable[[int], None] | None,
        stop: threading.Event,
        delivery_seconds: float | None,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._on_progress = on_progress or (lambda _sent: None)
        self._stop = stop
        self._is_patient = delivery_seconds is None
        self._sent = 0
        self._failed = 0
        self._fault: KafkaError | None = None
        self._reported = time.monotonic()
        self._producer = Producer(
            idempotent(cluster)
            | {
                # 0: no end.
                "message.timeout.ms": int((delivery_seconds or 0) * 1000),
                "queue.buffering.max.kbytes": 64 * 1024,
            }
        )

    def run(self, messages: Iterable[Message], rate: float | None) -> ReplayResult:
        started = time.monotonic()
        due = started
        for message in messages:
            if rate is not None:
                due = max(due + 1 / rate, time.monotonic() - _BURST_SECONDS)
                self._wait_until(due)
            if self._stop.is_set():
                break
            self._send(message)
            self._serve(0)
        self._serve(0)
        deadline: float | None = None
        while len(self._producer) > 0 and (deadline is None or time.monotonic() < deadline):
            self._serve(0.1)
            if deadline is None and self._is_patient and self._stop.is_set():
                deadline = time.monotonic() + _LAST_SECONDS
        self._on_progress(self._sent)
        return ReplayResult(self._sent, self._failed, time.monotonic() - started)

    def _send(self, message: Message) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    on_delivery=self._on_delivery,
                )
            except BufferError:
                # The queue is full: the broker is slower than the file, or away.
                self._serve(0.1)
                if self._stop.is_set():
                    return
            except KafkaException as error:
                self._on_delivery(error.args[0], None)
                return
            else:
                return

    def _wait_until(self, due: float) -> None:
        """Below librdkafka's resolution of a millisecond a wait would be a busy loop."""
        while (wait := due - time.monotonic()) > 0.002 and not self._stop.is_set():
            self._serve(min(wait, 0.1))

    def _serve(self, seconds: float) -> None:
        """Run delivery callbacks, report progress, give up when a message could not be delivered."""
        self._producer.poll(seconds)
        now = time.monotonic()
        if now - self._reported >= _PROGRESS_SECONDS:
            self._reported = now
            self._on_progress(self._sent)
        if self._fault is not None:
            reason = self._fault.str()
            self._producer.purge()
            raise BrokerError(
                f"Kafka at {self._cluster} did not take all messages ({reason}): "
                f"{self._sent:,} were delivered, the rest were not.",
                "Check the broker with `sentiment-assets kafka status`. A second call sends what was delivered again; "
                "`sentiment-assets ingest file` keeps what a broker that is away cannot take.",
            )

    def _on_delivery(self, error: KafkaError | None, _message: Delivered | None) -> None:
        if error is None:
            self._sent += 1
        elif error.code() in MESSAGE_FAULTS:
            self._failed += 1
            logger.warning("A message was refused: %s", error.str())
        else:
            self._fault = error
