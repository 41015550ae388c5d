"""The filtered stream against a local peer that speaks X's protocol, with the faults of the real one."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr

from sentiment_assets.failures import SourceError
from sentiment_assets.ingest.sources import x_source
from sentiment_assets.settings import Settings
from sentiment_assets.sources.live import Interrupted, Post
from sentiment_assets.sources.x_api import XStream, client, read_rules, recent
from sentiment_assets.sources.x_api.client import LIMIT, NETWORK, SERVER, pause_seconds
from sentiment_assets.sources.x_api.recent import SETTLE_SECONDS
from sentiment_assets_tests.peers.listening import Waits, ids, listen
from sentiment_assets_tests.peers.x_api import (
    HEARTBEAT,
    LONG_TEXT,
    TOKEN,
    Refusal,
    XPeer,
    be_silent,
    drop,
    lose,
    raw,
    send,
    stay,
    trickle,
)

WRONG = "wrong-secret"
RULES = ("dagster lang:en",)


def stream(
    peer: XPeer, rules: Sequence[str] = RULES, waits: Waits | None = None, secret: str = TOKEN
) -> XStream:
    """The source that searches at once; in earnest it waits SETTLE_SECONDS, by which the peer's clock is ahead here."""
    return XStream(peer.url, SecretStr(secret), list(rules), sleep=waits or Waits(), settle_seconds=0)


def numbers(first: int, last: int) -> set[str]:
    return {str(number) for number in range(first, last + 1)}


def test_posts_come_in_the_schema_of_the_topic_with_the_name_of_the_author() -> None:
    with XPeer([HEARTBEAT, send(1), HEARTBEAT, stay]) as peer:
        (post,) = listen(stream(peer), bool)
    assert post._replace(created_at=None) == Post(
        "1", "made-up post 1 \u2028 with a line separator", None, "somebody", "7", "en", "x"
    )
    assert set(json.loads(post.value())) == {
        "id",
        "text",
        "created_at",
        "author",
        "author_id",
        "lang",
        "source",
    }


def test_a_long_post_comes_with_its_whole_text() -> None:
    with XPeer([send(1, long=True), stay]) as peer:
        (post,) = listen(stream(peer), bool)
    assert post.text == LONG_TEXT


def test_a_rule_that_x_does_not_delete_is_named() -> None:
    with XPeer() as peer:
        peer.rules, peer.keep_rules = {"7": "unwanted"}, True
        with pytest.raises(SourceError, match="'unwanted'"):
            listen(stream(peer), bool)


def test_the_rules_at_x_become_those_that_are_wanted() -> None:
    with XPeer([send(1), stay]) as peer:
        peer.rules = {"1": "old", "2": "kept"}
        listen(stream(peer, ["kept", "new lang:en"]), bool)
        assert sorted(peer.rules.values()) == ["kept", "new lang:en"]
        assert peer.rules["2"] == "kept", "a rule that is right already is not touched"


def test_without_wanted_rules_those_at_x_stay() -> None:
    with XPeer([send(1), stay]) as peer:
        peer.rules = {"1": "there"}
        listen(stream(peer, []), bool)
        assert peer.rules == {"1": "there"}


def test_no_rule_at_all_is_an_error_with_an_example() -> None:
    with XPeer() as peer, pytest.raises(SourceError, match="no rule") as failure:
        listen(stream(peer, []), bool)
    assert "--rule" in failure.value.next_step


def test_a_rule_that_x_refuses_is_named_with_the_reason() -> None:
    with XPeer() as peer:
        peer.rules, peer.refuse_rules = {"7": "in force"}, True
        with pytest.raises(SourceError, match=r"'\(\(' \(no viable alternative\)"):
            listen(stream(peer, ["(("]), bool)
        assert peer.rules == {"7": "in force"}, "what worked goes on working"


def test_rules_are_replaced_at_the_most_that_a_plan_allows_and_more_are_refused() -> None:
    with XPeer([send(1), stay]) as peer:
        peer.rules, peer.most_rules = {"7": "old"}, 1
        listen(stream(peer, ["new"]), bool)
        assert list(peer.rules.values()) == ["new"]
        with pytest.raises(SourceError, match="no room for so many rules"):
            listen(stream(peer, ["new", "newer"]), bool)


def test_what_x_could_not_send_to_a_slow_reader_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "OVERLAP_SECONDS", 0.0)
    with XPeer([send(3), lose(5), drop], [send(1), stay], ahead_seconds=SETTLE_SECONDS) as peer:
        # When the first post has been taken, all others are long gone by.
        found = listen(stream(peer), lambda posts: len(ids(posts)) == 9, first_takes=2.5)
    assert ids(found) == numbers(1, 9)


def test_bad_frames_are_counted_and_the_stream_goes_on() -> None:
    bad = [b"not json\r\n", b"[1, 2]\r\n", b'{"data": {"id": 5}}\r\n', b"\xff\xfe\r\n", b'{"half": \r\n']
    with XPeer([*(raw(frame) for frame in bad), send(2), stay]) as peer:
        source = stream(peer)
        assert ids(listen(source, lambda posts: len(posts) == 2)) == {"1", "2"}
    assert source.counters.malformed == len(bad)
    assert source.counters.reconnects == 0


def test_a_post_in_two_chunks_is_one_post() -> None:
    line = json.dumps({"data": {"id": "9", "text": "ça va ☕"}}, ensure_ascii=False).encode() + b"\r\n"
    with XPeer([*(raw(line[place : place + 1]) for place in range(len(line))), stay]) as peer:
        (post,) = listen(stream(peer), bool)
    assert (post.id, post.text, post.author) == ("9", "ça va ☕", None)


def test_what_was_missed_while_disconnected_comes_from_recent_search() -> None:
    waits = Waits()
    with XPeer([send(10), drop], [lose(250), send(5), stay], ahead_seconds=SETTLE_SECONDS) as peer:
        source = stream(peer, waits=waits)
        posts = listen(source, lambda posts: ids(posts) == numbers(1, 265))
        assert {search["query"] for search in peer.searches} == set(RULES)
        assert len(peer.searches) >= 3, "250 posts are three pages of 100"
    assert len(posts) >= 265
    assert source.counters.reconnects == 1
    assert waits.seconds == [0.0], "a connection that had worked is tried again at once"


def test_what_was_missed_before_a_restart_comes_from_recent_search() -> None:
    with XPeer([send(10), stay], [send(1), stay], ahead_seconds=SETTLE_SECONDS) as peer:
        first = stream(peer)
        listen(first, lambda posts: len(posts) == 10)
        peer.publish(20)
        posts = listen(stream(peer), lambda posts: ids(posts) >= numbers(11, 31), first.position())
    assert posts


def test_what_was_missed_in_more_than_a_week_comes_as_far_as_x_has_it() -> None:
    with XPeer([send(1), stay], ahead_seconds=SETTLE_SECONDS) as peer:
        peer.publish(2)
        position = json.dumps({"alive_at": time.time() - 8 * 86_400, "gaps": []})
        assert listen(stream(peer), lambda posts: ids(posts) == numbers(1, 3), position)


def test_a_clock_fifteen_seconds_ahead_of_that_of_x_loses_no_gap() -> None:
    with XPeer([send(3), drop], [lose(2), send(1), stay], ahead_seconds=SETTLE_SECONDS - 15) as peer:
        listen(stream(peer), lambda posts: ids(posts) == numbers(1, 6))
        assert len(peer.searches) == 1


def test_a_search_that_x_finds_wrong_is_made_once_more_later() -> None:
    async def wait(seconds: float) -> None:
        peer.ahead_seconds += seconds
        await asyncio.sleep(0)

    with XPeer([send(3), drop], [lose(2), send(1), stay]) as peer:
        source = XStream(peer.url, SecretStr(TOKEN), list(RULES), sleep=wait, settle_seconds=0)
        listen(source, lambda posts: ids(posts) == numbers(1, 6))
        assert len(peer.searches) == 2


@pytest.mark.parametrize("status", [401, 404])
def test_a_gap_whose_search_is_refused_is_kept_for_the_next_start(
    caplog: pytest.LogCaptureFixture, status: int
) -> None:
    with XPeer([send(3), drop], [lose(2), trickle], [stay], search=Refusal(status)) as peer:
        source = stream(peer)
        listen(source, lambda _posts: "at the next start" in caplog.text)
        kept = json.loads(source.position() or "")
        # Without a new gap, which would overlap with the old one.
        position = json.dumps(kept | {"alive_at": None})
        peer.search, peer.ahead_seconds = None, SETTLE_SECONDS
        assert listen(stream(peer), lambda posts: ids(posts) >= {"4", "5"}, position)


def test_a_plan_without_recent_search_is_said_once_and_the_stream_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusal = Refusal(403, {"title": "Client Forbidden"})

    def both_gaps_are_done_with(posts: list[Post]) -> bool:
        return len(posts) >= 9 and not json.loads(source.position() or "")["gaps"]

    with XPeer([send(3), drop], [send(3), drop], [send(3), trickle], search=refusal) as peer:
        source = stream(peer)
        posts = listen(source, both_gaps_are_done_with)
    assert ids(posts) == numbers(1, len(posts))
    assert sum("recent search" in record.getMessage() for record in caplog.records) == 1


def test_a_rate_limit_is_waited_out_until_its_reset() -> None:
    waits = Waits()
    limit = Refusal(429, {"title": "Too Many Requests"}, x_rate_limit_reset=str(int(time.time()) + 40))
    with XPeer(limit, Refusal(429), Refusal(429), [send(1), stay]) as peer:
        listen(stream(peer, waits=waits), bool)
    assert 35 < waits.seconds[0] <= 40, "the header is believed"
    assert waits.seconds[1:] == [120.0, 240.0], "without it the wait doubles from a minute"


def test_server_errors_are_waited_out_exponentially() -> None:
    waits = Waits()
    with XPeer(Refusal(503), Refusal(502), Refusal(503), [send(1), stay]) as peer:
        source = stream(peer, waits=waits)
        listen(source, bool)
    assert waits.seconds == [5.0, 10.0, 20.0]
    assert source.counters.reconnects == 3


def test_a_connection_that_gives_no_post_and_ends_does_not_undo_the_pause() -> None:
    waits = Waits()
    scripts = [*([HEARTBEAT, drop],) * 3, [send(1), drop], [send(1), stay]]
    with XPeer(*scripts, ahead_seconds=SETTLE_SECONDS) as peer:
        listen(stream(peer, waits=waits), lambda posts: len(ids(posts)) == 2)
    assert waits.seconds == [0.25, 0.5, 0.75, 0.0]


def test_a_silence_counts_as_an_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.3)
    with XPeer([send(1), be_silent], [send(1), stay]) as peer:
        source = stream(peer)
        listen(source, lambda posts: len(ids(posts)) == 2)
    assert source.counters.reconnects == 1
    assert "nothing came for" in caplog.text


def test_a_connection_that_x_ends_with_a_reason_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    goodbye = json.dumps({"errors": [{"title": "operational-disconnect", "detail": "server restarts"}]})
    with XPeer([send(1), raw(goodbye.encode() + b"\r\n"), stay], [send(1), stay]) as peer:
        assert ids(listen(stream(peer), lambda posts: len(posts) == 2)) == {"1", "2"}
    assert "server restarts" in caplog.text


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (NETWORK, [0.25, 0.5, 0.75, 1.0, 1.25]),
        (SERVER, [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 320.0]),
        (LIMIT, [60.0, 120.0, 240.0, 480.0]),
    ],
)
def test_the_pauses_are_those_that_x_documents(kind: str, expected: list[float]) -> None:
    fault = Interrupted(kind, "")
    assert [pause_seconds(fault, row) for row in range(1, len(expected) + 1)] == expected
    assert pause_seconds(Interrupted(NETWORK, ""), 1000) == 16.0


def test_a_reset_that_lies_in_the_past_does_not_shorten_the_pause() -> None:
    assert pause_seconds(Interrupted(LIMIT, "", reset_at=1000.0), 1, now=2000.0) == 60.0


def test_a_refused_token_names_the_variable_and_never_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with XPeer() as peer, pytest.raises(SourceError, match="SENTIMENT_X_BEARER_TOKEN") as failure:
        listen(stream(peer, secret=WRONG), bool)
    assert WRONG not in str(failure.value)
    assert WRONG not in caplog.text


def test_the_token_shows_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SENTIMENT_X_BEARER_TOKEN", "very-secret")
    settings = Settings(home=tmp_path)
    assert (
        "very-secret" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    )
    assert x_source(settings).name == "x"


def test_without_a_token_the_variable_is_named(settings: Settings) -> None:
    with pytest.raises(SourceError, match="SENTIMENT_X_BEARER_TOKEN"):
        x_source(settings)


def test_the_token_never_travels_in_the_clear() -> None:
    source = XStream("http://example.org", SecretStr(TOKEN), list(RULES))
    with pytest.raises(SourceError, match="not an https"):
        listen(source, bool)


def test_a_rule_file_has_one_rule_a_line_and_hashtags_are_no_comments(tmp_path: Path) -> None:
    file = tmp_path / "rules.txt"
    file.write_text("#dagster lang:en\n\n  cat has:media \ndog\n", encoding="utf-8")
    assert read_rules(["dog", "bird"], file) == ["dog", "bird", "#dagster lang:en", "cat has:media"]
    with pytest.raises(SourceError, match=r"nowhere\.txt"):
        read_rules([], tmp_path / "nowhere.txt")
