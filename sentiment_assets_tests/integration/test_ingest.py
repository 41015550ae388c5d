"""Live posts into a real broker that restarts meanwhile: each id once in the topic, whatever happens."""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from pydantic import SecretStr

from sentiment_assets.ingest import ingest
from sentiment_assets.ingest.file import FileReplay
from sentiment_assets.ingest.recovery import topic_ends
from sentiment_assets.ingest.spool import Spool
from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.client import ensure_topic, topic_id
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.kafka.replay import Message, produce
from sentiment_assets.local.live import LiveIngest
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.settings import Settings
from sentiment_assets.sources.live import Post
from sentiment_assets.sources.x_api import XStream
from sentiment_assets.sources.x_api.recent import SETTLE_SECONDS
from sentiment_assets_tests.peers.jetstream import JetstreamPeer, post_event
from sentiment_assets_tests.peers.listening import Waits
from sentiment_assets_tests.peers.topic import keys_in
from sentiment_assets_tests.peers.x_api import TOKEN, XPeer, drop, lose, send, stay

pytestmark = pytest.mark.broker


@pytest.fixture
def own(settings: Settings) -> Iterator[tuple[EmbeddedBroker, Settings]]:
    """A broker of its own, not started."""
    configured = settings.model_copy(update={"kafka_port": free_port()})
    broker = EmbeddedBroker(configured)
    yield broker, configured
    broker.stop()


def test_posts_come_through_disconnects_and_a_killed_broker_each_once(
    own: tuple[EmbeddedBroker, Settings],
) -> None:
    broker, settings = own
    part = [send(400), lose(50), drop]
    half_way = threading.Event()
    killed = threading.Event()

    def wait_for_the_kill(_peer: XPeer, _handler: object) -> None:
        half_way.set()
        killed.wait(30)

    scripts = [part, part, [wait_for_the_kill, *part], part, [send(200), stay]]
    expected = 4 * 450 + 200
    stop = threading.Event()
    with XPeer(*scripts, ahead_seconds=SETTLE_SECONDS) as peer, ThreadPoolExecutor(1) as pool:
        source = XStream(peer.url, SecretStr(TOKEN), ["made up"], sleep=Waits(), settle_seconds=0)
        # The broker does not run yet: what comes first waits on disk.
        under_way = pool.submit(ingest, settings, source, stop)
        assert half_way.wait(30)
        first = broker.start()
        assert first.bootstrap is not None
        assert first.pid is not None
        _until(lambda: len(keys_in(str(first.bootstrap), settings.topic)) >= 850)
        os.kill(first.pid, signal.SIGKILL)
        psutil.Process(first.pid).wait(timeout=30)
        killed.set()
        _until(lambda: source.counters.reconnects >= 4)
        again = broker.start()
        assert again.bootstrap is not None
        _until(lambda: len(keys_in(str(again.bootstrap), settings.topic)) >= expected)
        stop.set()
        result = under_way.result(timeout=60)
        assert sorted(keys_in(again.bootstrap, settings.topic), key=int) == [
            str(number) for number in range(1, expected + 1)
        ]
    assert (result.delivered, result.spooled, result.refused) == (expected, 0, 0)
    assert result.duplicates == result.received - expected


def test_a_killed_ingest_sends_nothing_twice(broker: str, settings: Settings) -> None:
    """The spool of a process that died after Kafka had its messages and before it knew."""
    configured = settings.model_copy(
        update={"kafka_bootstrap": broker, "topic": f"killed-{settings.root.parent.name}"[:200]}
    )
    ensure_topic(Cluster(broker), configured.topic, 2)
    posts = [Post(str(number), f"made up {number}", None, None, None, "en", "test") for number in range(500)]
    produce([Message(b"0", b"of another producer")], Cluster(broker), configured.topic)
    spool = Spool(configured.spool / "file.sqlite", 10**9)
    spool.add(posts, None, distinct=False)
    this_topic = topic_id(Cluster(broker), configured.topic)
    assert this_topic is not None
    spool.remove([], topic_ends(Cluster(broker), configured.topic), topic=this_topic)
    produce([Message(post.key(), post.value()) for post in posts[:200]], Cluster(broker), configured.topic)
    spool.close()
    nothing = configured.root / "nothing.csv"
    nothing.write_text('"0","last","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","user","last"\n')
    result = ingest(configured, FileReplay(nothing, "ISO-8859-1"), threading.Event(), distinct=False)
    assert result.delivered == 501
    keys = keys_in(broker, configured.topic)
    assert len(keys) == 502
    assert set(keys) == {str(number) for number in range(500)} | {"last"}


def test_a_batch_that_is_too_large_for_the_topic_costs_only_the_message_that_is(
    broker: str, settings: Settings
) -> None:
    """A broker refuses a batch as a whole; its limit may be lower than the producer's."""
    topic = f"small-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker})
    made = admin.create_topics([NewTopic(topic, 1, config={"max.message.bytes": "40000"})])
    made[topic].result(30)
    configured = settings.model_copy(update={"kafka_bootstrap": broker, "topic": topic})
    spool = Spool(configured.spool / "file.sqlite", 10**9)
    # Random letters, or lz4 would make the batch small enough.
    sizes = [1_000] * 100 + [60_000] + [1_000] * 100
    posts = [
        Post(str(n), secrets.token_urlsafe(size), None, None, None, "en", "test")
        for n, size in enumerate(sizes)
    ]
    spool.add(posts, None, distinct=False)
    spool.close()
    nothing = configured.root / "nothing.csv"
    nothing.write_text('"0","last","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","user","last"\n')
    result = ingest(configured, FileReplay(nothing, "ISO-8859-1"), threading.Event(), distinct=False)
    assert (result.delivered, result.refused, result.spooled) == (201, 1, 0)
    assert sorted(keys_in(broker, topic)) == sorted([*(str(n) for n in range(201) if n != 100), "last"])


def test_sigterm_ends_the_command_with_everything_delivered_and_the_next_one_goes_on(
    broker: str, settings: Settings
) -> None:
    events = [post_event(number) for number in range(3000)]
    with JetstreamPeer(events[:1500]) as peer:
        first = _command(settings, broker, peer.url, stop_at=1500)
    with JetstreamPeer(events) as peer:
        second = _command(settings, broker, peer.url, stop_at=3000)
    assert (first["delivered"], first["spooled"]) == (1500, 0)
    assert (second["delivered"], second["spooled"]) == (1500, 0)
    assert second["duplicates"] > 0, "it began a little before the place where the first one ended"
    keys = keys_in(broker, settings.topic)
    assert len(set(keys)) == len(keys) == 3000


def test_what_the_end_of_a_file_left_is_delivered_alone(broker: str, settings: Settings) -> None:
    file = settings.root / "labelled.csv"
    file.write_text(
        "".join(f'"0","{n}","Mon Apr 06 22:19:45 PDT 2009","N","user","text {n}"\n' for n in range(20))
    )
    assert ingest(settings, FileReplay(file, "ISO-8859-1"), threading.Event(), distinct=False).spooled == 20
    environment = {"SENTIMENT_HOME": str(settings.root), "SENTIMENT_KAFKA_BOOTSTRAP": broker}
    topic = f"left-{uuid.uuid4().hex[:8]}"
    result = subprocess.run(
        [sys.executable, "-m", "sentiment_assets", "ingest", "spool", "file", "--json"],
        env=os.environ | environment | {"SENTIMENT_TOPIC": topic},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    figures = json.loads(result.stdout)
    assert (figures["received"], figures["delivered"], figures["spooled"]) == (0, 20, 0)
    assert sorted(keys_in(broker, topic), key=int) == [str(number) for number in range(20)]


def test_beside_the_main_job_the_posts_before_the_limit_wait_for_a_broker_that_comes_late(
    own: tuple[EmbeddedBroker, Settings],
) -> None:
    broker, settings = own
    stop = threading.Event()
    with JetstreamPeer([post_event(number) for number in range(100)]) as peer:
        live = LiveIngest(settings.model_copy(update={"jetstream_urls": peer.url}), "jetstream", 100, stop)
        live.start()
        try:
            _until(lambda: Spool(settings.spool / "jetstream.sqlite", 10**9).count == 100)
            started = broker.start()
            _until(lambda: live.finished)
        finally:
            stop.set()
            live.join(30)
    live.check()
    assert len(set(keys_in(str(started.bootstrap), settings.topic))) == 100


def _command(settings: Settings, bootstrap: str, url: str, *, stop_at: int) -> dict[str, int]:
    """Run ``ingest jetstream`` until the topic has so many messages, stop it, return its figures."""
    environment = os.environ | {
        "SENTIMENT_HOME": str(settings.root),
        "SENTIMENT_KAFKA_BOOTSTRAP": bootstrap,
        "SENTIMENT_TOPIC": settings.topic,
        "SENTIMENT_JETSTREAM_URLS": url,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "sentiment_assets", "ingest", "jetstream", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _until(lambda: process.poll() is not None or len(keys_in(bootstrap, settings.topic)) >= stop_at)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    figures: dict[str, int] = json.loads(output)
    return figures


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.1)
