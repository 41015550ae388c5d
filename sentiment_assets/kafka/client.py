"""Questions to a Kafka cluster, each with a hard time-out: no sensor tick may hang on a broker.

Belongs here: topics, offsets.
Does not belong here: where the cluster is (``cluster``), producing (``replay``), running a broker (``broker``),
consuming (Spark does).
"""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported at run time only
    AdminClient,
    NewTopic,
    OffsetSpec,
    TopicDescription,
)

from sentiment_assets.failures import BrokerError, NotAllowedError
from sentiment_assets.kafka.cluster import Cluster

logger = logging.getLogger(__name__)

# A request to a broker that is not there times out while librdkafka looks for one.
_UNREACHABLE = (
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
)

# A new topic, or one whose leader changes: metadata name a leader before it knows that it is one.
_ELECTING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)

_NOT_LET_IN = {
    KafkaError._AUTHENTICATION: "Check SENTIMENT_KAFKA_SASL_MECHANISM, _SASL_USERNAME and _SASL_PASSWORD.",
    KafkaError._SSL: "Check SENTIMENT_KAFKA_SSL_CA_LOCATION, _SSL_KEYSTORE_LOCATION and _SECURITY_PROTOCOL.",
}
"""Faults that no patience mends; a connection lost while it is made has another code."""

_FORBIDDEN = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)

_EVENT_SECONDS = 0.05


def quiet(cluster: Cluster) -> dict[str, Any]:
    """Options of every librdkafka client of ours: where to connect, and nothing on the console."""
    return cluster.librdkafka() | {
        "client.id": "sentiment-assets",
        "log_level": 0,
        "error_cb": lambda error: logger.debug("librdkafka: %s", error),
        # The default lets a client wait up to 10 s before it notices that the broker is back.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
    }


def ensure_topic(cluster: Cluster, topic: str, partitions: int, timeout: float = 10.0) -> int:
    """Create a topic unless it exists.

    Returns
    -------
    int
        Partitions that the topic has, which for an existing topic may be another number.

    Raises
    ------
    BrokerError
        When the cluster cannot be reached or refuses.
    """
    deadline = time.monotonic() + timeout
    with _Admin(cluster, timeout) as admin:
        if (existing := admin.describe(topic)) is not None:
            return len(existing.partitions)
        # Replication factor -1: the cluster's own default (KIP-464).
        new = NewTopic(topic, num_partitions=partitions, replication_factor=-1)
        created = admin.client.create_topics([new], operation_timeout=timeout, request_timeout=timeout)
        try:
            admin.answer(created[topic])
        except KafkaException as error:
            if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
                raise admin.refused(error) from error
        # The controller answers before the brokers know: until they do, clients are told that there is no such topic.
        while time.monotonic() < deadline:
            described = admin.describe(topic)
            if described is not None and all(part.leader is not None for part in described.partitions):
                return len(described.partitions)
            time.sleep(0.02)
    raise BrokerError(
        f"Kafka at {cluster} did not make the topic {topic} within {timeout:g} s.", _next_step()
    )


def remove_topic(cluster: Cluster, topic: str, timeout: float = 10.0) -> None:
    """Delete a topic with all its messages.

    Raises
    ------
    BrokerError
        When the cluster cannot be reached or refuses.
    """
    with _Admin(cluster, timeout) as admin:
        try:
            admin.answer(admin.client.delete_topics([topic], request_timeout=timeout)[topic])
        except KafkaException as error:
            raise admin.refused(error) from error


def topic_id(cluster: Cluster, topic: str, timeout: float = 5.0) -> str | None:
    """The id that Kafka gave the topic; another one means that the topic was deleted and made anew.

    Returns
    -------
    str or None
        None when there is no such topic.

    Raises
    ------
    BrokerError
        When the cluster cannot be reached.
    """
    with _Admin(cluster, timeout) as admin:
        described = admin.describe(topic)
    return None if described is None else str(described.topic_id)


def watermarks(cluster: Cluster, topic: str, timeout: float = 3.0) -> dict[int, tuple[int, int]]:
    """First offset and next offset of each partition.

    Returns
    -------
    dict
        partition -> (low, high): low is the oldest offset that is kept, high the one the next message gets.
        Empty when there is no such topic.

    Raises
    ------
    BrokerError
        When the cluster cannot be reached.
    """
    with _Admin(cluster, timeout) as admin:
        described = admin.describe(topic)
        if described is None:
            return {}
        earliest: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        low = admin.offsets(described, earliest)
        high = admin.offsets(described, latest)
    return {partition: (low[partition], high[partition]) for partition in sorted(high)}


def _next_step() -> str:
    return (
        "Check SENTIMENT_KAFKA_BOOTSTRAP and _SECURITY_PROTOCOL, or start the embedded broker with "
        "`sentiment-assets kafka start`."
    )


class _Admin:
    """One client for a few questions, which knows why it is not let in.

    librdkafka tries a refused login again and again, and the question would only time out: the reason is an event
    of the client, which has to be fetched.

    It ends with its ``with`` block. Left to the garbage collector, which may run in the client's own thread while
    that delivers an answer, it would end the whole process: librdkafka aborts when one of its threads is to wait for
    itself (``rd_kafka_destroy_app``).
    """

    def __init__(self, cluster: Cluster, timeout: float) -> None:
        self.cluster, self.timeout = cluster, timeout
        self._faults: list[KafkaError] = []
        self.client = AdminClient(quiet(cluster) | {"error_cb": self._faults.append})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__(None, None, None)

    def describe(self, topic: str) -> TopicDescription | None:
        """Metadata of one topic: unlike a metadata request by name, this never creates the topic."""
        described = self.client.describe_topics(TopicCollection([topic]), request_timeout=self.timeout)
        try:
            description: TopicDescription = self.answer(described[topic])
        except KafkaException as error:
            if _code(error) == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise self.refused(error) from error
        return description

    def offsets(self, topic: TopicDescription, spec: OffsetSpec) -> Mapping[int, int]:
        """Offset of each partition; waits out the election of a leader, which librdkafka reports instead."""
        wanted = {TopicPartition(topic.name, part.id): spec for part in topic.partitions}
        deadline = time.monotonic() + self.timeout
        while True:
            answers = self.client.list_offsets(wanted, request_timeout=self.timeout)
            try:
                return {part.partition: int(self.answer(future).offset) for part, future in answers.items()}
            except KafkaException as error:
                if _code(error) not in _ELECTING or time.monotonic() >= deadline:
                    raise self.refused(error) from error
            time.sleep(0.05)

    def answer(self, future: "Future[Any]") -> Any:
        """Result of a request; the margin lets librdkafka's own, better explained time-out come first."""
        deadline = time.monotonic() + self.timeout + 1.0
        while True:
            try:
                return future.result(timeout=_EVENT_SECONDS)
            except FutureTimeout as error:
                self.client.poll(0)
                self._raise_if_not_let_in()
                if time.monotonic() >= deadline:
                    raise BrokerError(
                        f"Kafka at {self.cluster} gave no answer within {self.timeout:g} s.", _next_step()
                    ) from error

    def refused(self, error: KafkaException) -> BrokerError:
        """What a failed request means."""
        if _code(error) in _UNREACHABLE:
            self.client.poll(0)
            self._raise_if_not_let_in()
            return BrokerError(f"Kafka at {self.cluster} cannot be reached.", _next_step())
        reason = error.args[0].str() if isinstance(error.args[0], KafkaError) else str(error)
        what = f"Kafka at {self.cluster} refused ({reason})."
        if _code(error) in _FORBIDDEN:
            return NotAllowedError(what, "Grant its user what docs/kafka.md names.")
        return BrokerError(what, _next_step())

    def _raise_if_not_let_in(self) -> None:
        for fault in self._faults:
            if next_step := _NOT_LET_IN.get(fault.code()):
                raise NotAllowedError(
                    f"Kafka at {self.cluster} ({self.cluster.security()}) does not let us in ({fault.str()}).",
                    next_step,
                )


def _code(error: KafkaException) -> int | None:
    cause = error.args[0]
    return int(cause.code()) if isinstance(cause, KafkaError) else None
