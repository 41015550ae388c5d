"""Replay against the real broker: every message once, whatever the limit; bad ones are counted."""

import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from sentiment_assets.failures import BrokerError
from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.client import ensure_topic, quiet, watermarks
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.kafka.replay import Message, produce, replay_file
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.settings import Settings

pytestmark = pytest.mark.broker

ROWS = 200


@pytest.fixture
def topic(broker: str) -> str:
    """A fresh topic of two partitions."""
    name = f"replay-{uuid.uuid4().hex[:8]}"
    assert ensure_topic(Cluster(broker), name, 2) == 2
    return name


@pytest.fixture
def labelled_file(tmp_path: Path) -> Path:
    """A file in Sentiment140's format."""
    path = tmp_path / "labelled.csv"
    path.write_text(
        "".join(
            f'"{0 if n < ROWS / 2 else 4}","{n}","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","user{n}","text {n}"\n'
            for n in range(ROWS)
        ),
        encoding="latin-1",
    )
    return path


def consumed(bootstrap: str, topic: str) -> list[dict[str, object]]:
    """All values of a topic, parsed."""
    expected = sum(high for _, high in watermarks(Cluster(bootstrap), topic).values())
    consumer = Consumer(
        quiet(Cluster(bootstrap)) | {"group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    values: list[dict[str, object]] = []
    while len(values) < expected:
        # Returns early only when it has as many as asked for.
        batch = consumer.consume(expected - len(values), timeout=30)
        assert batch, f"only {len(values)} of {expected} messages came"
        values += [json.loads(message.value() or b"") for message in batch]
    consumer.close()
    return values


def test_a_limit_delivers_so_many_distinct_messages(broker: str, topic: str, labelled_file: Path) -> None:
    progress: list[int] = []
    result = replay_file(
        labelled_file, Cluster(broker), topic, limit=150, rate=2000, on_progress=progress.append
    )
    assert (result.sent, result.failed, progress[-1]) == (150, 0, 150)
    values = consumed(broker, topic)
    assert len({value["id"] for value in values}) == len(values) == 150
    assert {value["created_at"] for value in values} == {"2009-04-07T05:19:45Z"}


def test_a_limit_above_the_rows_loops_over_the_file(broker: str, topic: str, labelled_file: Path) -> None:
    assert replay_file(labelled_file, Cluster(broker), topic, limit=2 * ROWS + 1).sent == 2 * ROWS + 1
    times = Counter(value["id"] for value in consumed(broker, topic))
    assert len(times) == ROWS
    assert Counter(times.values()) == {2: ROWS - 1, 3: 1}


def test_a_stop_ends_a_replay_and_what_was_sent_is_delivered(
    broker: str, topic: str, labelled_file: Path
) -> None:
    stop = threading.Event()
    result = replay_file(
        labelled_file,
        Cluster(broker),
        topic,
        limit=10_000,
        rate=200,
        on_progress=lambda _sent: stop.set(),
        stop=stop,
    )
    assert 0 < result.sent < 10_000
    assert len(consumed(broker, topic)) == result.sent


def test_too_large_messages_are_counted_and_the_others_delivered(broker: str, topic: str) -> None:
    messages = [
        Message(b"a", b"x"),
        Message(b"b", b"x" * 2_100_000),
        Message(b"c", None),
        Message(None, b"\xff"),
    ]
    result = produce(messages, Cluster(broker), topic)
    assert (result.sent, result.failed) == (3, 1)
    assert sum(high for _, high in watermarks(Cluster(broker), topic).values()) == 3


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker that this test may stop."""
    own = EmbeddedBroker(Settings(home=tmp_path / "home", kafka_port=free_port()).prepare())
    own.start()
    yield own
    own.stop()


def with_an_outage(broker: EmbeddedBroker, *, back: bool) -> Iterator[Message]:
    """Twenty messages; the broker is stopped after ten, and started again before the last one."""
    for number in range(20):
        if number == 10:
            broker.stop()
        if number == 19 and back:
            broker.start()
        yield Message(None, str(number).encode())


def test_an_outage_fails_a_replay_after_its_time_and_one_without_end_not_at_all(
    own_broker: EmbeddedBroker,
) -> None:
    cluster = Cluster(own_broker.status().bootstrap or "")
    ensure_topic(cluster, "tweets", 2)
    with pytest.raises(BrokerError, match="did not take all messages"):
        produce(with_an_outage(own_broker, back=True), cluster, "tweets", rate=100, delivery_seconds=1)
    own_broker.start()
    before = sum(high for _, high in watermarks(cluster, "tweets").values())
    outage = with_an_outage(own_broker, back=True)
    assert produce(outage, cluster, "tweets", rate=100, delivery_seconds=None).sent == 20
    assert sum(high for _, high in watermarks(cluster, "tweets").values()) == before + 20


def test_a_replay_that_waits_for_its_broker_without_end_can_be_stopped(own_broker: EmbeddedBroker) -> None:
    cluster, stop = Cluster(own_broker.status().bootstrap or ""), threading.Event()
    ensure_topic(cluster, "tweets", 2)

    def messages() -> Iterator[Message]:
        yield from with_an_outage(own_broker, back=False)
        stop.set()

    assert produce(messages(), cluster, "tweets", rate=100, stop=stop, delivery_seconds=None).sent < 20


def test_a_topic_that_does_not_exist_is_an_error_and_is_not_created(broker: str) -> None:
    with pytest.raises(BrokerError, match="has no topic nowhere"):
        produce([Message(None, b"x")], Cluster(broker), "nowhere")
    assert watermarks(Cluster(broker), "nowhere") == {}
