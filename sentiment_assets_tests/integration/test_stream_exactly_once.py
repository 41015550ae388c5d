"""Each message is one prediction or one dead letter, once, through restarts and a SIGKILL."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sentiment_assets.failures import StreamError
from sentiment_assets.kafka.replay import Message
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.heartbeat import read_heartbeat
from sentiment_assets.streaming.parsing import Reason
from sentiment_assets.streaming.progress import Progress
from sentiment_assets.streaming.status import read_status
from sentiment_assets_tests.chaos.adversarial import adversarial
from sentiment_assets_tests.integration.stream_helpers import column, drain, fresh_stream, send, tweet

pytestmark = [pytest.mark.spark, pytest.mark.broker]

BAD = {
    Reason.NULL: None,
    Reason.NOT_UTF8: b"\xff\xfe",
    Reason.NOT_JSON: b"{" * 5000,
    Reason.NOT_AN_OBJECT: b"[1]",
    Reason.NO_TEXT: b"{}",
    Reason.NOT_A_STRING: b'{"text":7}',
    Reason.EMPTY: b'{"text":""}',
    Reason.TOO_LONG: b'{"text":"' + b"z" * 1_000_000 + b'"}',
}


def assert_exactly_once(settings: Settings, good: int, bad: int) -> None:
    status = read_status(settings)
    names = ("predictions", "dead_letters", "lag", "gaps", "duplicates", "pending")
    assert {name: status[name] for name in names} == {
        "predictions": good,
        "dead_letters": bad,
        "lag": 0,
        "gaps": 0,
        "duplicates": 0,
        "pending": 0,
    }


@pytest.fixture(scope="module")
def drained(spark: SparkSession, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A stream that has scored 300 good messages and put 8 bad ones aside, in batches of 100."""
    home = tmp_path_factory.mktemp("drained") / "home"
    settings = fresh_stream(spark, home, broker, max_offsets_per_trigger=100)
    good = [tweet(number, "happy" if number % 3 else "sad") for number in range(300)]
    bad = [Message(b"k", value) for value in BAD.values()]
    assert send(settings, good[:150] + bad + good[150:]) == 308
    result = drain(spark, settings)
    assert (result.rows, result.dead, result.reason) == (300, 8, "drained")
    assert result.batches >= 4
    return settings


def test_good_messages_become_predictions_and_bad_ones_dead_letters(drained: Settings) -> None:
    assert_exactly_once(drained, 300, 8)
    assert sorted(column(drained, "dead_letters", "reason")) == sorted(map(str, BAD))
    assert sorted(column(drained, "predictions", "tweet_id"), key=int) == [str(n) for n in range(300)]


def test_the_tables_have_the_columns_of_the_schema_in_order(drained: Settings) -> None:
    for table in (PREDICTIONS, DEAD_LETTERS):
        fields = DeltaTable(str(drained.table(table.name))).schema().fields
        assert [field.name for field in fields] == table.column_names


def test_each_row_names_model_sentiment_and_where_it_came_from(drained: Settings) -> None:
    (version,) = set(column(drained, "predictions", "model_version"))
    assert version == read_status(drained)["model"]
    assert set(column(drained, "predictions", "topic")) == {drained.topic}
    scores = zip(
        column(drained, "predictions", "text"),
        column(drained, "predictions", "sentiment"),
        column(drained, "predictions", "probability"),
        strict=True,
    )
    for text, sentiment, probability in scores:
        assert (sentiment == "positive") == (probability > 0.5) == text.startswith("happy"), text


def test_a_restart_resumes_without_gap_or_duplicate(spark: SparkSession, drained: Settings) -> None:
    send(drained, [tweet(1), Message(None, None)])
    result = drain(spark, drained)
    assert (result.rows, result.dead) == (1, 1)
    assert_exactly_once(drained, 301, 9)


def test_dead_letters_that_a_crash_left_behind_are_written_once(
    spark: SparkSession, drained: Settings
) -> None:
    """As if the process died between the commit of the predictions and that of the dead letters."""
    before = read_status(drained)
    (drained.checkpoints / "dead_letters" / "position.json").unlink()
    lost = f"reason = '{Reason.EMPTY}'"
    DeltaTable(str(drained.table("dead_letters"))).delete(lost)
    crashed = read_status(drained)
    assert (crashed["pending"], crashed["gaps"]) == (1, 0)
    assert drain(spark, drained).dead == 1
    assert_exactly_once(drained, before["predictions"], before["dead_letters"])


def test_letters_of_a_batch_that_was_written_but_not_recorded_are_found(
    spark: SparkSession, broker: str, tmp_path: Path
) -> None:
    """As if the process died after Delta's commit of the predictions, before all that follows it."""
    settings = fresh_stream(spark, tmp_path / "home", broker)
    send(settings, [tweet(1), tweet(2)])
    drain(spark, settings)
    position = settings.checkpoints / "dead_letters" / "position.json"
    kept = position.read_bytes()
    send(settings, [tweet(3), Message(None, b"bad")])
    drain(spark, settings)
    commits = settings.checkpoints / "predictions" / "commits"
    newest = max(commits.glob("[0-9]*"), key=lambda file: int(file.name))
    newest.unlink()
    position.write_bytes(kept)
    DeltaTable(str(settings.table("dead_letters"))).delete("offset >= 0")
    send(settings, [tweet(4)])
    drain(spark, settings)
    assert_exactly_once(settings, 4, 1)


@pytest.mark.parametrize("written", [True, False], ids=["written", "not written"])
def test_a_batch_that_was_planned_but_not_recorded_is_written_once(
    spark: SparkSession, drained: Settings, *, written: bool
) -> None:
    """As if the process died between Delta's commit and Spark's own record of the batch, or before both."""
    before = read_status(drained)
    table = DeltaTable(str(drained.table("predictions")))
    version = table.version()
    send(drained, [tweet(2), Message(None, None)])
    drain(spark, drained)
    commits = drained.checkpoints / "predictions" / "commits"
    newest = max(commits.glob("[0-9]*"), key=lambda file: int(file.name))
    newest.unlink()
    if not written:
        table.update_incremental()
        table.restore(version)
    seen: list[Progress] = []
    drain(spark, drained, on_progress=seen.append)
    assert any(progress.ready for progress in seen), (
        "no new message came, and the stream never said it was ready"
    )
    assert_exactly_once(drained, before["predictions"] + 1, before["dead_letters"] + 1)


def test_hostile_messages_are_predictions_or_dead_letters_and_never_stop_the_stream(
    spark: SparkSession, broker: str, tmp_path: Path
) -> None:
    settings = fresh_stream(spark, tmp_path / "home", broker)
    assert send(settings, adversarial(2_000)) == 2_000
    result = drain(spark, settings)
    assert (result.reason, result.rows + result.dead) == ("drained", 2_000)
    assert_exactly_once(settings, result.rows, result.dead)
    assert set(column(settings, "dead_letters", "reason")) == {str(reason) for reason in Reason}


_RUNNER = """
import sys
from sentiment_assets.settings import Settings
from sentiment_assets.spark.session import build_session
from sentiment_assets.streaming.lease import run_lease
settings = Settings.from_env()
run_lease(build_session(settings, role="stream", app_name="victim"), settings, lease_seconds=300, idle_seconds=300)
"""


@pytest.mark.parametrize("jvm_hangs", [False, True], ids=["killed", "killed with a JVM that hangs"])
def test_a_killed_stream_leaves_neither_gap_nor_duplicate(
    spark: SparkSession, broker: str, tmp_path: Path, *, jvm_hangs: bool
) -> None:
    settings = fresh_stream(spark, tmp_path / "home", broker, max_offsets_per_trigger=200)
    messages = [tweet(n) if n % 50 else Message(None, b"bad") for n in range(5000)]
    send(settings, messages)
    environment = os.environ | {
        "SENTIMENT_HOME": str(settings.root),
        "SENTIMENT_KAFKA_BOOTSTRAP": broker,
        "SENTIMENT_TOPIC": settings.topic,
        "SENTIMENT_MAX_OFFSETS_PER_TRIGGER": "200",
    }
    victim = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_RUNNER)], env=environment)
    try:
        jvm = _wait_for_batches(settings, victim, 2)
        with pytest.raises(StreamError, match=rf"process {victim.pid} in the foreground"):
            drain(spark, settings)
        if jvm_hangs:
            # It does not notice that its parent is gone, and would hold the stream's lock for ever.
            os.kill(jvm, signal.SIGSTOP)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    killed_at = read_status(settings)
    assert killed_at["lag"] > 0
    assert killed_at["stream"]["state"].startswith("gone")
    # The JVM may outlive its Python process by a moment; the next lease waits for it by the lock.
    result = drain(spark, settings)
    assert not psutil.pid_exists(jvm)
    assert result.reason == "drained"
    assert_exactly_once(settings, 4900, 100)


def _wait_for_batches(settings: Settings, victim: subprocess.Popen[bytes], batches: int) -> int:
    """Wait until the stream has committed some; returns the pid of its JVM."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert victim.poll() is None, "the stream ended by itself"
        beat = read_heartbeat(settings)
        if beat is not None and beat.pid == victim.pid and beat.batches >= batches and beat.jvm_pid:
            return beat.jvm_pid
        time.sleep(0.05)
    raise AssertionError("no batch was committed within 240 s")
