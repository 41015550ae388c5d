"""Jetstream against a local websocket server: frames, languages, cursors, hosts that go away."""

import json
import logging
from collections import Counter

import pytest

from sentiment_assets.failures import SourceError
from sentiment_assets.ingest.sources import jetstream_source
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.settings import Settings
from sentiment_assets.sources import jetstream
from sentiment_assets.sources.jetstream import PUBLIC_URLS, Jetstream
from sentiment_assets.sources.live import Post
from sentiment_assets_tests.peers.jetstream import FIRST_MOMENT, STEP_MICROSECONDS, JetstreamPeer, post_event
from sentiment_assets_tests.peers.listening import Waits, ids, listen


def uri(number: int) -> str:
    return f"at://did:plc:author{number % 10}/app.bsky.feed.post/post{number}"


def test_a_post_has_the_schema_of_the_topic_and_its_address_as_id() -> None:
    with JetstreamPeer([post_event(0, text="hi \ud83d there", langs=["en-GB", "fr"])]) as peer:
        (post,) = listen(Jetstream([peer.url], ["en"]), bool)
    assert post == Post(
        uri(0),
        "hi \ud83d there",
        "2026-01-02T03:04:05.678Z",
        "did:plc:author0",
        "did:plc:author0",
        "en-GB",
        "bluesky",
    )
    assert json.loads(post.value())["text"] == "hi \ufffd there", "half an emoji is no UTF-8"


def test_only_posts_are_asked_for() -> None:
    with JetstreamPeer([post_event(0)]) as peer:
        listen(Jetstream([peer.url]), bool)
        assert peer.queries[0]["wantedCollections"] == ["app.bsky.feed.post"]
        assert "cursor" not in peer.queries[0]


def test_other_languages_empty_texts_deletions_and_other_events_are_skipped() -> None:
    deletion = post_event(3)
    deletion["commit"] = {"operation": "delete", "collection": "app.bsky.feed.post", "rkey": "x", "rev": "y"}
    identity = {"did": "did:plc:a", "time_us": FIRST_MOMENT, "kind": "identity", "identity": {}}
    events = [
        post_event(0, langs=["ja"]),
        post_event(1, langs=[]),
        post_event(2, text=" \n"),
        deletion,
        identity,
        post_event(5),
    ]
    with JetstreamPeer(events) as peer:
        source = Jetstream([peer.url], ["en"])
        assert ids(listen(source, bool)) == {uri(5)}
    assert source.counters.skipped == 5
    assert source.counters.malformed == 0


def test_without_languages_every_post_counts() -> None:
    with JetstreamPeer([post_event(0, langs=["ja"]), post_event(1, langs=[])]) as peer:
        assert len(listen(Jetstream([peer.url]), lambda posts: len(posts) == 2)) == 2


def test_bad_frames_are_counted_and_the_stream_goes_on() -> None:
    bad = ["not json", "[]", "null", '{"kind": "commit"}', b"\xff\xfe", '{"time_us": 1, "kind": "commit"}']
    with JetstreamPeer([*bad, post_event(len(bad))]) as peer:
        source = Jetstream([peer.url])
        assert ids(listen(source, bool)) == {uri(len(bad))}
    assert source.counters.malformed == len(bad)


def test_after_a_break_the_cursor_is_a_few_seconds_before_the_last_post() -> None:
    events = [post_event(number) for number in range(500)]
    waits = Waits()
    with JetstreamPeer(events, breaks=(200, 150)) as peer:
        source = Jetstream([peer.url], sleep=waits)
        posts = listen(source, lambda posts: len(ids(posts)) == 500)
        cursors = [int(query["cursor"][0]) for query in peer.queries[1:]]
    assert cursors[0] == FIRST_MOMENT + 199 * STEP_MICROSECONDS - 5_000_000
    assert source.counters.reconnects == 2
    assert max(waits.seconds) <= 0.25, "connections that had worked"
    assert max(Counter(post.id for post in posts).values()) > 1, (
        "the overlap comes again; the spool removes it"
    )


def test_a_restart_goes_on_where_the_last_run_ended() -> None:
    events = [post_event(number) for number in range(300)]
    with JetstreamPeer(events[:200]) as peer:
        source = Jetstream([peer.url])
        listen(source, lambda posts: len(posts) == 200)
        position = source.position()
    with JetstreamPeer(events) as peer:
        posts = listen(Jetstream([peer.url]), lambda posts: uri(299) in ids(posts), position)
    assert 100 <= len(posts) < 200


def test_a_host_that_sends_a_frame_and_closes_is_asked_less_and_less_often() -> None:
    waits = Waits()
    with JetstreamPeer([post_event(number) for number in range(10)], breaks=(1,) * 9) as peer:
        listen(Jetstream([peer.url], sleep=waits), lambda posts: len(ids(posts)) == 10)
    assert len(waits.seconds) == 9
    for row, seconds in enumerate(waits.seconds, 1):
        assert seconds >= min(60.0, 0.25 * 2**row) / 2


def test_a_silent_host_counts_as_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(jetstream, "_SILENCE_SECONDS", 0.2)
    with JetstreamPeer([post_event(0)]) as peer:
        source = Jetstream([peer.url], sleep=Waits())
        listen(source, lambda posts: len(posts) == 2)
    assert source.counters.reconnects == 1, "the second connection begins before the one post"
    assert "is silent" in caplog.text


@pytest.mark.parametrize("url", ["wss://h:999999/x", "wss://[::1/x", "wss://a..b/x", "https://example.org"])
def test_an_address_that_is_none_is_named_with_its_variable(settings: Settings, url: str) -> None:
    with pytest.raises(SourceError, match=r"SENTIMENT_JETSTREAM_URLS") as failure:
        listen(jetstream_source(settings.model_copy(update={"jetstream_urls": url})), bool)
    assert url in str(failure.value)


def test_a_regional_tag_asks_for_its_language() -> None:
    events = [post_event(0, langs=["en"]), post_event(1, langs=["pt"]), post_event(2, langs=["pt-PT"])]
    with JetstreamPeer(events) as peer:
        posts = listen(Jetstream([peer.url], ["pt-BR"]), lambda posts: len(posts) == 2)
    assert ids(posts) == {uri(1), uri(2)}


def test_a_host_that_does_not_answer_is_followed_by_the_next_one() -> None:
    waits = Waits()
    with JetstreamPeer([post_event(0)]) as peer:
        dead = f"ws://127.0.0.1:{free_port()}/subscribe"
        source = Jetstream([dead, dead, peer.url], sleep=waits)
        assert listen(source, bool)
    assert source.counters.reconnects == 2
    assert 0 < waits.seconds[0] <= 0.5 < waits.seconds[1] <= 1.0


def test_the_public_hosts_are_the_default(settings: Settings) -> None:
    assert len(set(PUBLIC_URLS)) == len(PUBLIC_URLS) >= 2
    assert jetstream_source(settings).name == "jetstream"
