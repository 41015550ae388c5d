"""Questions to a Kafka cluster, each with a hard time-out: no sensor tick may hang on a broker.

Belongs here: where the cluster is, topics, offsets.
Does not belong here: producing (``replay``), running a broker (``broker``), consuming (Spark does).
"""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported at run time only
    AdminClient,
    NewTopic,
    OffsetSpec,
    TopicDescription,
)

from sentiment_assets.failures import BrokerError
from sentiment_assets.runtime.processes import read_record, recorded_process
from sentiment_assets.settings import Settings

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

BROKER = "broker"
"""Name of the embedded broker's record, lock and log."""


def quiet(bootstrap: str) -> dict[str, Any]:
    """Options of every librdkafka client of ours: where to connect, and nothing on the console."""
    return {
        "bootstrap.servers": bootstrap,
        "client.id": "sentiment-assets",
        "log_level": 0,
        "error_cb": lambda error: logger.debug("librdkafka: %s", error),
        # The default lets a client wait up to 10 s before it notices that the broker is back.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
    }


def bootstrap_servers(settings: Settings) -> str | None:
    """Address of the cluster: the configured one, else that of the running embedded broker, else None."""
    if settings.kafka_bootstrap:
        return settings.kafka_bootstrap
    record = read_record(settings, BROKER)
    if record is None or "ready" not in record.facts or recorded_process(record) is None:
        return None
    return record.facts["bootstrap"]


def ensure_topic(bootstrap: str, topic: str, partitions: int, timeout: float = 10.0) -> int:
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
    admin = AdminClient(quiet(bootstrap))
    if (existing := _describe(admin, bootstrap, topic, timeout)) is not None:
        return len(existing.partitions)
    # Replication factor -1: the cluster's own default (KIP-464).
    new = NewTopic(topic, num_partitions=partitions, replication_factor=-1)
    created = admin.create_topics([new], operation_timeout=timeout, request_timeout=timeout)
    try:
        _answer(created[topic], bootstrap, timeout)
    except KafkaException as error:
        if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
            raise _refused(bootstrap, error) from error
    # The controller answers before the brokers know: until they do, clients are told that there is no such topic.
    while time.monotonic() < deadline:
        described = _describe(admin, bootstrap, topic, timeout)
        if described is not None and all(part.leader is not None for part in described.partitions):
            return len(described.partitions)
        time.sleep(0.02)
    raise BrokerError(
        f"Kafka at {bootstrap} did not make the topic {topic} within {timeout:g} s.", _next_step()
    )


def remove_topic(bootstrap: str, topic: str, timeout: float = 10.0) -> None:
    """Delete a topic with all its messages.

    Raises
    ------
    BrokerError
        When the cluster cannot be reached or refuses.
    """
    admin = AdminClient(quiet(bootstrap))
    try:
        _answer(admin.delete_topics([topic], request_timeout=timeout)[topic], bootstrap, timeout)
    except KafkaException as error:
        raise _refused(bootstrap, error) from error


def topic_id(bootstrap: str, topic: str, timeout: float = 5.0) -> str | None:
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
    described = _describe(AdminClient(quiet(bootstrap)), bootstrap, topic, timeout)
    return None if described is None else str(described.topic_id)


def watermarks(bootstrap: str, topic: str, timeout: float = 3.0) -> dict[int, tuple[int, int]]:
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
    admin = AdminClient(quiet(bootstrap))
    described = _describe(admin, bootstrap, topic, timeout)
    if described is None:
        return {}
    earliest: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    low = _offsets(admin, bootstrap, described, earliest, timeout)
    high = _offsets(admin, bootstrap, described, latest, timeout)
    return {partition: (low[partition], high[partition]) for partition in sorted(high)}


def _describe(admin: AdminClient, bootstrap: str, topic: str, timeout: float) -> TopicDescription | None:
    """Metadata of one topic: unlike a metadata request by name, this never creates the topic."""
    described = admin.describe_topics(TopicCollection([topic]), request_timeout=timeout)
    try:
        description: TopicDescription = _answer(described[topic], bootstrap, timeout)
    except KafkaException as error:
        if _code(error) == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise _refused(bootstrap, error) from error
    return description


def _offsets(
    admin: AdminClient, bootstrap: str, topic: TopicDescription, spec: OffsetSpec, timeout: float
) -> Mapping[int, int]:
    """Offset of each partition; waits out the election of a leader, which librdkafka reports instead."""
    wanted = {TopicPartition(topic.name, part.id): spec for part in topic.partitions}
    deadline = time.monotonic() + timeout
    while True:
        answers = admin.list_offsets(wanted, request_timeout=timeout)
        try:
            return {
                part.partition: int(_answer(future, bootstrap, timeout).offset)
                for part, future in answers.items()
            }
        except KafkaException as error:
            if _code(error) not in _ELECTING or time.monotonic() >= deadline:
                raise _refused(bootstrap, error) from error
        time.sleep(0.05)


def _answer(future: "Future[Any]", bootstrap: str, timeout: float) -> Any:
    """Result of a request; the margin lets librdkafka's own, better explained time-out come first."""
    try:
        return future.result(timeout=timeout + 1.0)
    except FutureTimeout as error:
        raise BrokerError(
            f"Kafka at {bootstrap} gave no answer within {timeout:g} s.", _next_step()
        ) from error


def _refused(bootstrap: str, error: KafkaException) -> BrokerError:
    if _code(error) in _UNREACHABLE:
        return BrokerError(f"Kafka at {bootstrap} cannot be reached.", _next_step())
    reason = error.args[0].str() if isinstance(error.args[0], KafkaError) else str(error)
    return BrokerError(f"Kafka at {bootstrap} refused ({reason}).", _next_step())


def _next_step() -> str:
    return (
        "Check SENTIMENT_KAFKA_BOOTSTRAP, or start the embedded broker with `sentiment-assets kafka start`."
    )


def _code(error: KafkaException) -> int | None:
    cause = error.args[0]
    return int(cause.code()) if isinstance(cause, KafkaError) else None
