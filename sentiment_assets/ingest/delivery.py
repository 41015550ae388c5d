"""Delivery: what is in the spool goes to the topic, in order, and is forgotten once Kafka has it.

Belongs here: the producer of live posts and its life across broker restarts.
Does not belong here: the replay of a whole file, which gives up after a minute (``kafka.replay``).

The producer is idempotent and never times a message out: while it lives, each message is in the topic exactly
once, however often the broker restarts. What a dead one had under way is looked up in the topic (``recovery``).
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from sentiment_assets.failures import BrokerError, NotAllowedError
from sentiment_assets.ingest.recovery import already_there, topic_ends
from sentiment_assets.ingest.spool import Spool, Waiting
from sentiment_assets.kafka.client import ensure_topic, topic_id
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.kafka.replay import MESSAGE_FAULTS, idempotent

logger = logging.getLogger(__name__)

WINDOW = 5_000
"""Messages handed to the producer and not acknowledged: the bound of what is in memory, beside that in bytes."""

_QUEUE_BYTES = 32 * 2**20
_AT_ONCE = 500
_AT_ONCE_BYTES = 2**20
_CONNECT_SECONDS = 0.5
_STALLED_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 60.0
_NOT_ALLOWED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
_NOT_LET_IN = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_RECORD_FAULTS = (*MESSAGE_FAULTS, KafkaError.RECORD_LIST_TOO_LARGE)
"""A broker judges a whole batch; which of its messages is at fault shows when each is sent alone.

Not POLICY_VIOLATION: gateways answer it when they do not like how we send, which no message can help.
"""


class Delivery(threading.Thread):
    """Empties a spool into a topic until :meth:`finish`.

    Parameters
    ----------
    find_broker
        The cluster, or None while there is none; asked again when nothing gets through.
    partitions
        Of the topic, if it must be made.
    """

    def __init__(
        self, spool: Spool, find_broker: Callable[[], Cluster | None], topic: str, partitions: int
    ) -> None:
        super().__init__(name="delivery", daemon=True)
        self.delivered = 0
        self.refused = 0
        self.error: Exception | None = None
        self._spool = spool
        self._find_broker = find_broker
        self._topic = topic
        self._partitions = partitions
        self._cluster: Cluster | None = None
        self._producer: Producer | None = None
        self._away = False
        self._said: set[str] = set()
        self._shut_out = False
        self._handed = 0
        self._in_flight = 0
        self._acknowledged: list[Waiting] = []
        self._ends: dict[int, int] = {}
        self._lost: KafkaError | None = None
        self._failures = 0
        self._alone = False
        self._alone_until = 0
        self._topic_id = ""
        self._moved_at = time.monotonic()
        self._wake = threading.Event()
        self._met = False
        self._patient = False
        self._end_at: float | None = None

    @property
    def text(self) -> str:
        """State in words."""
        return "the broker is away" if self._away else "delivering"

    def finish(self, seconds: float | None, *, patient_until: threading.Event | None = None) -> None:
        """Deliver what waits, but for no longer than so; the rest stays in the spool.

        Parameters
        ----------
        seconds
            At most. Without a broker it ends at once. None: until everything is delivered.
        patient_until
            A broker that was there and is away is waited for as well, until this is set; with no seconds, any broker.
        """
        self._patient = patient_until is not None and (self._met or seconds is None)
        self._end_at = math.inf if seconds is None else time.monotonic() + seconds
        self._wake.set()
        self._spool.arrived.set()
        while self.is_alive():
            self.join(0.1)
            if self._patient and patient_until is not None and patient_until.is_set():
                self._patient = False
                self._end_at = time.monotonic()
                self._wake.set()

    def run(self) -> None:
        """Until :meth:`finish`; an error of ours, or a login or right that Kafka refuses, ends it: :attr:`error`."""
        try:
            while not self._over():
                if self._producer is None and not self._connect():
                    if self._end_at is not None and not self._patient:
                        break
                    self._wake.wait(_CONNECT_SECONDS)
                    self._wake.clear()
                    continue
                self._hand_over()
                self._settle()
        except Exception as error:
            self.error = error
        finally:
            self._drop_producer()

    def _over(self) -> bool:
        return self._is_late() or (self._end_at is not None and self._spool.count == 0)

    def _is_late(self) -> bool:
        return self._end_at is not None and time.monotonic() >= self._end_at

    def _connect(self) -> bool:
        cluster = self._find_broker()
        try:
            if cluster is None:
                raise BrokerError("No Kafka broker runs.", "Start one with `sentiment-assets kafka start`.")
            ensure_topic(cluster, self._topic, self._partitions, timeout=3.0)
            self._topic_id = topic_id(cluster, self._topic, timeout=3.0) or ""
            self._recover(cluster)
        except NotAllowedError:
            # Final, as Kafka's own clients take it (KIP-152): waiting would hide what a person has to mend.
            raise
        except BrokerError as error:
            self._note_away(error)
            return False
        self._cluster = cluster
        self._alone = self._alone_until > 0
        self._producer = Producer(
            idempotent(cluster)
            | {
                # No time-out: a message that was perhaps delivered must never be given up and sent anew.
                "message.timeout.ms": 0,
                "queue.buffering.max.messages": 2 * WINDOW,
                "queue.buffering.max.kbytes": _QUEUE_BYTES // 1024,
                "error_cb": self._on_fault,
            }
            | ({"batch.num.messages": 1} if self._alone else {})
        )
        self._moved_at = time.monotonic()
        self._met = True
        if not self._failures:
            self._note_back()
        return True

    def _recover(self, cluster: Cluster) -> None:
        """Count what a producer before this one had delivered without our knowledge."""
        ends = topic_ends(cluster, self._topic)
        # More the producer before cannot have held: what is under way, and what was acknowledged just now.
        rows = self._spool.after(0, 2 * WINDOW, 2 * _QUEUE_BYTES)
        since = self._spool.ends(self._topic_id)
        there = already_there(cluster, self._topic, since, ends, rows, self._is_late)
        self._spool.remove(there, ends, topic=self._topic_id)
        self.delivered += len(there)

    def _hand_over(self) -> None:
        """Give the producer more while its window has room, and let it work."""
        assert self._producer is not None  # noqa: S101  (run connects first)
        # Behind a batch that was refused nothing more is sent: the others under way come to their end first.
        room = 0 if self._lost is not None else min(_AT_ONCE, WINDOW - self._in_flight)
        self._spool.arrived.clear()
        rows = self._spool.after(self._handed, room, _AT_ONCE_BYTES) if room > 0 else []
        if self._alone:
            rows = [row for row in rows if row.number <= self._alone_until]
        full = False
        for row in rows:
            try:
                self._producer.produce(
                    self._topic, value=row.value, key=row.key, on_delivery=partial(self._on_delivery, row)
                )
            except BufferError:
                full = True
                break
            except KafkaException as error:
                self._in_flight += 1
                self._on_delivery(row, error.args[0], None)
            else:
                self._in_flight += 1
            self._handed = row.number
        if self._in_flight:
            self._producer.poll(0.0 if rows and not full else 0.05)
        elif not rows:
            self._spool.arrived.wait(0.2)

    def _settle(self) -> None:
        """Forget what was acknowledged; look for the broker when nothing moves."""
        now = time.monotonic()
        if self._acknowledged:
            self._moved_at = now
            self._failures = 0
            self._shut_out = False
            self._note_back()
            self._forget_acknowledged()
        elif self._in_flight == 0:
            self._moved_at = now
        elif now - self._moved_at > _STALLED_SECONDS:
            self._moved_at = now
            self._note_away(
                BrokerError(f"Kafka at {self._cluster} acknowledges nothing.", "Check the broker's log.")
            )
            found = self._find_broker()
            if found is not None and found != self._cluster:
                logger.warning("Kafka has moved from %s to %s.", self._cluster, found)
                self._drop_producer()
            elif self._shut_out:
                # It would try for ever: connecting anew tells why we are not let in.
                self._drop_producer()
        if self._lost is not None and not (self._lost.code() in _RECORD_FAULTS and self._in_flight):
            self._rest(self._lost)
        elif self._alone and self._in_flight == 0 and not self._has_suspects():
            self._alone_until = 0
            self._drop_producer()

    def _has_suspects(self) -> bool:
        """Whether there are posts that are to be sent alone and were not handed over yet."""
        return any(row.number <= self._alone_until for row in self._spool.after(self._handed, 1, 1))

    def _rest(self, fault: KafkaError) -> None:
        """Let go of a producer that failed, and pause before the next: longer after each failure in a row.

        Raises
        ------
        NotAllowedError
            When Kafka does not allow us to write.
        """
        where = str(self._cluster)
        self._drop_producer()
        if fault.code() in _NOT_ALLOWED:
            raise NotAllowedError(
                f"Kafka at {where} does not allow its user to write to {self._topic} ({fault.str()}).",
                "Grant what docs/kafka.md names and start again: posts that were kept are still there.",
            )
        if fault.code() in _RECORD_FAULTS:
            return
        self._failures += 1
        self._note_away(
            BrokerError(f"Kafka at {where} takes no messages ({fault.str()}).", "Check the broker's log.")
        )
        pause = min(_LONGEST_PAUSE_SECONDS, _CONNECT_SECONDS * 2**self._failures)
        if self._end_at is not None:
            pause = min(pause, max(0.0, self._end_at - time.monotonic()))
        self._wake.wait(pause)
        self._wake.clear()

    def _drop_producer(self) -> None:
        """Let go of the producer; what it had not delivered is still in the spool."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.poll(0)
            self._producer = None
        self._forget_acknowledged()
        self._handed = self._in_flight = 0
        self._lost = None
        self._shut_out = False

    def _forget_acknowledged(self) -> None:
        if self._acknowledged:
            self._spool.remove(self._acknowledged, self._ends, topic=self._topic_id)
            self._acknowledged.clear()
            self._ends.clear()

    def _on_delivery(self, row: Waiting, error: KafkaError | None, message: Delivered | None) -> None:
        self._in_flight -= 1
        if error is None:
            self.delivered += 1
            self._acknowledged.append(row)
            self._note_end(message)
        elif error.code() in _RECORD_FAULTS and not (self._alone or message is None):
            self._alone_until = max(self._alone_until, row.number)
            self._lost = error
        elif error.code() in _RECORD_FAULTS:
            self.refused += 1
            self._acknowledged.append(row)
            logger.warning("A message was refused: %s", error.str())
        elif error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._lost = error

    def _on_fault(self, error: KafkaError) -> None:
        logger.debug("librdkafka: %s", error)
        if error.code() in _NOT_LET_IN:
            self._shut_out = True

    def _note_end(self, message: Delivered | None) -> None:
        partition, offset = (message.partition(), message.offset()) if message is not None else (None, None)
        if partition is not None and offset is not None:
            self._ends[partition] = max(offset + 1, self._ends.get(partition, 0))

    def _note_away(self, reason: BrokerError) -> None:
        """Say each reason once while the broker is away: another may stand behind the first."""
        if reason.what not in self._said:
            logger.warning("%s Posts wait on disk until it is back.", reason)
        self._said.add(reason.what)
        self._away = True

    def _note_back(self) -> None:
        if self._away:
            logger.warning("Kafka is back: %s posts wait.", f"{self._spool.count:,}")
        self._away = False
        self._said.clear()
