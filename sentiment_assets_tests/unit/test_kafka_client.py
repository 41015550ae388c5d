"""Where the cluster is, and what becomes of questions to one that is not there."""

import os
from collections.abc import Callable

import psutil
import pytest

from sentiment_assets.failures import BrokerError
from sentiment_assets.kafka.client import ensure_topic, remove_topic, topic_id, watermarks
from sentiment_assets.kafka.cluster import BROKER, Cluster, find_cluster
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.settings import Settings

asked = pytest.mark.parametrize(
    "ask",
    [
        lambda cluster: ensure_topic(cluster, "tweets", 1, timeout=0.5),
        lambda cluster: remove_topic(cluster, "tweets", timeout=0.5),
        lambda cluster: topic_id(cluster, "tweets", timeout=0.5),
        lambda cluster: watermarks(cluster, "tweets", timeout=0.5),
    ],
    ids=["ensure_topic", "remove_topic", "topic_id", "watermarks"],
)


@asked
def test_a_broker_that_is_not_there_is_an_error_and_not_a_hang(
    ask: Callable[[Cluster], object], capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerError, match=nowhere):
        ask(Cluster(nowhere))
    assert capfd.readouterr() == ("", ""), "librdkafka's log must not reach the console"


@asked
def test_a_client_ends_with_its_question_though_the_error_is_kept(ask: Callable[[Cluster], object]) -> None:
    process = psutil.Process()
    before = process.num_threads()
    with pytest.raises(BrokerError) as kept:
        ask(Cluster(f"127.0.0.1:{free_port()}"))
    # A client that the traceback keeps would be left to the garbage collector, which may run in the client's thread.
    assert process.num_threads() <= before
    assert kept.tb is not None


def test_a_configured_cluster_comes_before_the_embedded_broker(settings: Settings) -> None:
    configured = settings.model_copy(update={"kafka_bootstrap": "kafka.example:9092"})
    assert str(find_cluster(configured)) == "kafka.example:9092"


def test_without_any_broker_there_is_no_address(settings: Settings) -> None:
    assert find_cluster(settings) is None


def test_a_record_of_a_broker_that_has_ended_gives_no_address(settings: Settings) -> None:
    created = psutil.Process(os.getpid()).create_time() - 3600
    (settings.run / f"{BROKER}.json").write_text(
        f'{{"pid": {os.getpid()}, "create_time": {created}, "command": [], "log": "", "token": "",'
        ' "facts": {"bootstrap": "127.0.0.1:9092", "ready": "yes"}}'
    )
    assert find_cluster(settings) is None
