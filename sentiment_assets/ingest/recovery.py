"""After a kill: which waiting posts Kafka has already, though its acknowledgement never came.

Belongs here: reading the end of the topic once, before a new producer begins.
Does not belong here: delivery itself (``delivery``).

A producer that died took with it what it knew of its messages under way. They are found by key and value in what
was appended to the topic since the last acknowledgement, so that none is sent twice.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from sentiment_assets.failures import BrokerError, NotAllowedError
from sentiment_assets.ingest.spool import Waiting
from sentiment_assets.kafka.client import quiet, watermarks
from sentiment_assets.kafka.cluster import Cluster

_AT_ONCE = 5_000
_SECONDS = 30.0
"""Without a message for so long, the topic's end counts as unreadable."""


def topic_ends(cluster: Cluster, topic: str) -> dict[int, int]:
    """The offset that the next message of each partition gets."""
    return {partition: high for partition, (_low, high) in watermarks(cluster, topic).items()}


def already_there(
    cluster: Cluster,
    topic: str,
    since: Mapping[int, int],
    ends: Mapping[int, int],
    rows: Sequence[Waiting],
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Waiting]:
    """The rows that are in the topic at or behind the given offsets, each message counted once.

    Parameters
    ----------
    since
        partition -> offset behind the last acknowledged message.
    ends
        partition -> offset to read up to.
    rows
        What may have been under way. Of other messages nothing is kept in memory.
    should_stop
        Asked about once a second; true ends the search.

    Raises
    ------
    NotAllowedError
        When our user may not read the topic.
    BrokerError
        When the end of the topic cannot be read now, or the search was ended.
    """
    left = {p: end for p, end in ends.items() if since.get(p, end) < end}
    if not left or not rows:
        return []
    consumer = Consumer(
        quiet(cluster)
        # The offset may be older than what the topic still keeps.
        | {"group.id": uuid.uuid4().hex, "enable.auto.commit": False, "auto.offset.reset": "earliest",
           "enable.partition.eof": True}
    )  # fmt: skip
    wanted = {(row.key, row.value) for row in rows}
    found: Counter[tuple[bytes, bytes]] = Counter()
    deadline = time.monotonic() + _SECONDS
    try:
        consumer.assign([TopicPartition(topic, p, since[p]) for p in left])
        while left:
            for message in consumer.consume(_AT_ONCE, timeout=1.0):
                partition, offset, error = message.partition(), message.offset(), message.error()
                if error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise NotAllowedError(
                        f"Kafka at {cluster} does not allow its user to read {topic} ({error.str()}).",
                        "Grant what docs/kafka.md names: what a killed ingest had sent is looked up there.",
                    )
                if partition not in left or offset is None:
                    continue
                if error is None:
                    deadline = time.monotonic() + _SECONDS
                    record = (message.key() or b"", message.value() or b"")
                    if offset < left[partition] and record in wanted:
                        found[record] += 1
                # The last offsets may be markers of transactions, which are no messages.
                at_end = error is not None and error.code() == KafkaError._PARTITION_EOF
                if at_end or offset + 1 >= left[partition]:
                    del left[partition]
            if left and (should_stop() or time.monotonic() > deadline):
                raise BrokerError(
                    f"Kafka at {cluster} does not give the end of {topic}.", "Check the broker's log."
                )
    except KafkaException as error:
        raise BrokerError(
            f"The end of {topic} cannot be read ({error}).", "Check the broker's log."
        ) from None
    finally:
        consumer.close()
    there: list[Waiting] = []
    for row in rows:
        if found[row.key, row.value] > 0:
            found[row.key, row.value] -= 1
            there.append(row)
    return there
