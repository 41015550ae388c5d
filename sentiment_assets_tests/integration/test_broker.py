"""The embedded broker through its life: first start, crash, restart, taken port, stop."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from sentiment_assets.failures import BrokerError
from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.client import ensure_topic, remove_topic, topic_id, watermarks
from sentiment_assets.kafka.cluster import Cluster, find_cluster
from sentiment_assets.kafka.replay import Message, produce
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.runtime.processes import read_record, recorded_process
from sentiment_assets.settings import Settings

pytestmark = pytest.mark.broker


@pytest.fixture
def embedded(settings: Settings) -> Iterator[tuple[EmbeddedBroker, Settings]]:
    """A broker of its own, not started, whose preferred port is taken."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        configured = settings.model_copy(update={"kafka_port": other.getsockname()[1], "topic_partitions": 3})
        broker = EmbeddedBroker(configured)
        yield broker, configured
        broker.stop()


def test_the_broker_lives_through_a_taken_port_a_crash_and_a_restart_without_losing_a_message(
    embedded: tuple[EmbeddedBroker, Settings],
) -> None:
    broker, settings = embedded
    assert not broker.status().running

    first = broker.start()
    assert first.bootstrap is not None
    assert first.pid is not None
    assert first.bootstrap != f"127.0.0.1:{settings.kafka_port}", "the preferred port is taken"
    assert find_cluster(settings) == Cluster(first.bootstrap)
    assert sorted(watermarks(Cluster(first.bootstrap), settings.topic)) == [0, 1, 2]
    assert broker.start() == first, "a second start finds the running broker"

    big = b"x" * 1_000_000
    result = produce(
        [Message(b"key", b"value")] * 10 + [Message(None, big)], Cluster(first.bootstrap), settings.topic
    )
    assert (result.sent, result.failed) == (11, 0)
    identity = topic_id(Cluster(first.bootstrap), settings.topic)

    under_way = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        replay = pool.submit(
            produce,
            [Message(b"%d" % number, b"x") for number in range(2000)],
            Cluster(first.bootstrap),
            settings.topic,
            rate=500,
            on_progress=lambda _sent: under_way.set(),
        )
        assert under_way.wait(timeout=30)
        os.kill(first.pid, signal.SIGKILL)
        psutil.Process(first.pid).wait(timeout=30)
        assert not broker.status().running
        assert find_cluster(settings) is None
        again = broker.start()
        assert replay.result(timeout=60).sent == 2000, "a replay rides out the crash"
    assert again.bootstrap == first.bootstrap, "the address stays"
    assert topic_id(Cluster(again.bootstrap), settings.topic) == identity
    assert (
        sum(high - low for low, high in watermarks(Cluster(again.bootstrap), settings.topic).values()) == 2011
    )

    record = read_record(settings, "broker")
    assert broker.stop().running is False
    assert recorded_process(record) is None
    with pytest.raises(BrokerError, match="cannot be reached"):
        watermarks(Cluster(again.bootstrap), settings.topic, timeout=1.0)


def test_another_port_in_the_settings_is_that_of_the_next_start(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", kafka_port=free_port()).prepare()
    broker = EmbeddedBroker(settings)
    broker.start()
    broker.stop()
    port = free_port()
    moved = EmbeddedBroker(settings.model_copy(update={"kafka_port": port}))
    try:
        assert moved.start().bootstrap == f"127.0.0.1:{port}"
    finally:
        moved.stop()


def test_a_broker_that_cannot_start_says_why_and_where_its_log_is(settings: Settings) -> None:
    own = settings.model_copy(update={"kafka_port": free_port()})
    (own.kafka / "data").mkdir(parents=True)
    # A folder of another cluster: ids that do not belong to this broker.
    (own.kafka / "data" / "meta.properties").write_text(
        "version=1\nnode.id=7\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\n"
    )
    broker = EmbeddedBroker(own)
    with pytest.raises(BrokerError) as failure:
        broker.start()
    assert "node.id" in failure.value.what or "node id" in failure.value.what
    assert str(own.logs / "kafka.log") in failure.value.next_step
    assert not broker.status().running


def test_a_removed_topic_is_gone(broker: str) -> None:
    ensure_topic(Cluster(broker), "short-lived", 1)
    remove_topic(Cluster(broker), "short-lived")
    assert topic_id(Cluster(broker), "short-lived") is None
