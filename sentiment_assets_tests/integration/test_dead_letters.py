"""Dead letters go back through a real topic, each once."""

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sentiment_assets.failures import SourceError
from sentiment_assets.kafka.client import ensure_topic, watermarks
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.kafka.replay import Message, produce
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.mending import (
    HEADER,
    DeadLetter,
    _Ledger,
    _write_ledger,
    export,
    replay,
    replayed_places,
)
from sentiment_assets_tests.letters import put_aside

pytestmark = pytest.mark.broker
NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def home(broker: str, tmp_path: Path) -> Settings:
    """A home with three dead letters and a topic of its own."""
    settings = Settings(
        home=tmp_path / "home", kafka_bootstrap=broker, topic=f"letters-{uuid.uuid4().hex[:8]}"
    ).prepare()
    ensure_topic(Cluster(broker), settings.topic, 2)
    values = (b'{"id": "1"}', b"\xff", b'{"id": "2"}')
    put_aside(
        settings,
        [DeadLetter(settings.topic, 0, n, NOW, "text is missing", b"k", v) for n, v in enumerate(values)],
    )
    return settings


def messages(settings: Settings, broker: str) -> int:
    return sum(high for _, high in watermarks(Cluster(broker), settings.topic).values())


def mend(file: Path, offset: int) -> None:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["offset"] == offset:
            line["value"] = {"id": "1", "text": "a text at last"}
    file.write_text("\n".join(map(json.dumps, lines)))


def test_mended_letters_go_back_once_and_the_others_stay(home: Settings, broker: str, tmp_path: Path) -> None:
    file = tmp_path / "letters.jsonl"
    assert export(home, file) == 3
    mend(file, 0)
    first = replay(home, Cluster(broker), file)
    assert (first.sent, first.already, first.unchanged, first.refused) == (1, 0, 2, 0)
    mend(file, 2)
    second = replay(home, Cluster(broker), file)
    assert (second.sent, second.already, second.unchanged) == (1, 1, 1)
    assert messages(home, broker) == 2
    assert set(replayed_places(home)) == {f"{home.topic}/0/0", f"{home.topic}/0/2"}


def test_without_a_file_all_go_back_as_they_are_and_only_once(home: Settings, broker: str) -> None:
    assert replay(home, Cluster(broker), None).sent == 3
    assert replay(home, Cluster(broker), None) == replay(home, Cluster(broker), None)
    assert messages(home, broker) == 3


def test_a_replay_that_was_killed_after_sending_is_not_repeated(home: Settings, broker: str) -> None:
    """As if the process died between the delivery of one letter and the record of it."""
    _write_ledger(home, _Ledger(since={"0": 0, "1": 0}))
    sent = Message(b"k", b"{}", ((HEADER, f"{home.topic}/0/1".encode()),))
    assert produce([sent, Message(b"a", b"another message")], Cluster(broker), home.topic).sent == 2
    result = replay(home, Cluster(broker), None)
    assert (result.sent, result.already) == (2, 1)
    assert messages(home, broker) == 4


def test_a_line_that_is_no_letter_of_this_home_is_named(home: Settings, broker: str, tmp_path: Path) -> None:
    file = tmp_path / "letters.jsonl"
    file.write_text('{"topic": "another", "partition": 0, "offset": 1, "value": "x"}\n')
    with pytest.raises(SourceError, match="Line 1 of"):
        replay(home, Cluster(broker), file)
    assert messages(home, broker) == 0
