"""Alerts, shares and metrics: what reaches people and machines that watch."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import requests
from deltalake import write_deltalake

from sentiment_assets.failures import SetupError
from sentiment_assets.ingest import ingest
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.sources.jetstream import Jetstream
from sentiment_assets.spark.delta import ensure_table
from sentiment_assets.streaming.alerts import alert, clear
from sentiment_assets.streaming.heartbeat import Phase, of_this_process, write_heartbeat
from sentiment_assets.streaming.mending import DeadLetter
from sentiment_assets.streaming.metrics import serve_metrics
from sentiment_assets.streaming.shares import Level, recent_messages
from sentiment_assets_tests.letters import put_aside
from sentiment_assets_tests.peers import predictions
from sentiment_assets_tests.peers.jetstream import JetstreamPeer, post_event
from sentiment_assets_tests.webhook import Webhook, listening, with_webhook

NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with listening() as server:
        yield server


def test_an_incident_is_told_once_and_again_after_it_was_over(settings: Settings, webhook: Webhook) -> None:
    watched = with_webhook(settings, webhook.url)
    assert alert(watched, "too many", "12 % cannot be scored")
    assert not alert(watched, "too many", "13 % cannot be scored")
    assert alert(watched, "another", "the circuit is open")
    clear(watched, "too many")
    assert alert(watched, "too many", "14 % cannot be scored")
    assert [got["incident"] for got in webhook.got] == ["too many", "another", "too many"]
    assert "12 %" in webhook.got[0]["text"]


def test_a_webhook_that_refuses_is_tried_again_and_never_named(
    settings: Settings, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    watched = with_webhook(settings, webhook.url)
    webhook.status = 500
    with caplog.at_level(logging.DEBUG, logger="sentiment_assets"):
        assert not alert(watched, "too many", "text")
    assert "tried again" in caplog.text
    assert "secret-path" not in caplog.text + repr(watched)
    webhook.status = 200
    assert alert(watched, "too many", "text")


def test_a_full_disk_does_not_make_one_incident_many_alerts(settings: Settings, webhook: Webhook) -> None:
    watched = with_webhook(settings, webhook.url)
    # What stands in the way of the file stands in for a disk that takes no more.
    (settings.run / "alerts.json").mkdir()
    assert alert(watched, "circuit open", "text")
    assert not alert(watched, "circuit open", "text")
    assert len(webhook.got) == 1


def test_without_a_webhook_nothing_is_told(settings: Settings) -> None:
    assert not alert(settings, "too many", "text")


@pytest.mark.parametrize("in_one_file", [True, False])
def test_the_share_of_dead_letters_is_that_of_the_newest_hour_and_of_the_live_topic(
    settings: Settings, in_one_file: bool
) -> None:
    times = [NOW, NOW - timedelta(minutes=59), NOW - timedelta(minutes=61)]
    put_aside(
        settings,
        [DeadLetter("tweets", 0, n, moment, "not JSON", None, b"x") for n, moment in enumerate(times)],
    )
    rows = {
        "topic": ["tweets"] * 8 + ["backfill:abc"],
        # Backfilled today, though the stream is still with the messages of yesterday.
        "kafka_timestamp": [NOW] * 8 + [NOW + timedelta(days=1)],
    }
    table = predictions.rows(1, 9)
    for name, values in rows.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(
            place, table.schema.field(name), pa.array(values, table.schema.field(name).type)
        )
    ensure_table(settings.table("predictions"), PREDICTIONS)
    for part in (table,) if in_one_file else (table.slice(0, 8), table.slice(8)):
        write_deltalake(str(settings.table("predictions")), part, mode="append")
    recent = recent_messages(settings)
    assert (recent.dead_letters, recent.predictions, recent.dead_share) == (2, 8, 0.2)
    assert recent.level(settings) is Level.FAIL
    assert recent.level(settings.model_copy(update={"dead_letter_fail": 0.2})) is Level.WARN
    lenient = settings.model_copy(update={"dead_letter_fail": 0.9, "dead_letter_warn": 0.2})
    assert recent.level(lenient) is Level.GOOD


def test_the_hour_ends_at_the_newest_message_whether_it_was_scored_or_not(settings: Settings) -> None:
    table = settings.table("predictions")
    ensure_table(table, PREDICTIONS)
    scored = predictions.rows(1, 4)
    write_deltalake(str(table), scored, mode="append")
    long_ago = scored["kafka_timestamp"][0].as_py() - timedelta(hours=30)
    put_aside(settings, [DeadLetter("tweets", 0, 99, long_ago, "not JSON", None, b"x")])
    recent = recent_messages(settings)
    assert (recent.dead_letters, recent.predictions) == (0, 4)


def test_a_message_from_the_future_does_not_hide_the_others(settings: Settings) -> None:
    now = datetime.now(UTC)
    letters = [DeadLetter("tweets", 0, n, now, "not JSON", None, b"x") for n in range(3)]
    put_aside(settings, [*letters, DeadLetter("tweets", 0, 9, now + timedelta(days=400), "", None, b"x")])
    assert recent_messages(settings).dead_letters == 4


def test_with_no_message_at_all_the_share_is_good(settings: Settings) -> None:
    assert recent_messages(settings).level(settings) is Level.GOOD


def test_metrics_are_served_on_the_loopback_address_and_read_the_state_at_each_scrape(
    settings: Settings,
) -> None:
    port = free_port()
    serve_metrics(settings, port)
    address = f"http://127.0.0.1:{port}/metrics"
    before = requests.get(address, timeout=10).text
    assert "sentiment_up 0.0" in before
    assert "sentiment_lag_messages" not in before
    write_heartbeat(settings, of_this_process(Phase.RUNNING, ready=True, rows=7, rows_per_second=50.0))
    after = requests.get(address, timeout=10).text
    for line in (
        "sentiment_up 1.0",
        "sentiment_ready 1.0",
        "sentiment_lease_rows 7.0",
        "sentiment_broker_up 0.0",
    ):
        assert line in after, line
    (settings.run / "ingest-broken.json").write_text("{")
    with JetstreamPeer([post_event(number) for number in range(5)]) as peer:
        ingest(settings, Jetstream([peer.url]), threading.Event(), limit=5)
    live = requests.get(address, timeout=10).text
    assert 'sentiment_ingest_received_total{source="jetstream"} 5.0' in live
    assert 'sentiment_ingest_spooled_messages{source="jetstream"} 5.0' in live
    assert 'source="broken"' not in live
    with pytest.raises(SetupError, match="SENTIMENT_METRICS_PORT"):
        serve_metrics(settings, port)
