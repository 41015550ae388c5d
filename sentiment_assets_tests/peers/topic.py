"""What is in a topic, read from its beginning to the end that it has now."""

import uuid

from confluent_kafka import Consumer, TopicPartition

from sentiment_assets.kafka.client import quiet, watermarks
from sentiment_assets.kafka.cluster import Cluster

_SECONDS_BETWEEN_MESSAGES = 30


def keys_in(bootstrap: str, topic: str) -> list[str]:
    """The keys of all messages, in no certain order; a key that occurs twice is there twice."""
    ends = watermarks(Cluster(bootstrap), topic, timeout=10)
    expected = sum(high - low for low, high in ends.values())
    consumer = Consumer(
        quiet(Cluster(bootstrap)) | {"group.id": uuid.uuid4().hex, "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, low) for partition, (low, _) in ends.items()])
    keys: list[str] = []
    try:
        while len(keys) < expected:
            batch = consumer.consume(min(10_000, expected - len(keys)), timeout=_SECONDS_BETWEEN_MESSAGES)
            assert batch, f"only {len(keys)} of {expected} messages came"
            for message in batch:
                assert message.error() is None, message.error()
                keys.append((message.key() or b"").decode())
    finally:
        consumer.close()
    return keys
