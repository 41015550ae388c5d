"""Scores of the past: rescored or filled in as one commit, resumable, beside a running stream too."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from rich.console import Console

from sentiment_assets.failures import StreamError
from sentiment_assets.local.history import backfill, rescore
from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import table_version
from sentiment_assets.streaming import backfill as backfills
from sentiment_assets.streaming import rescore as rescores
from sentiment_assets.streaming.rescore import Bound, job_name, plan_rescore, stage_piece
from sentiment_assets.streaming.serving import load_model
from sentiment_assets.streaming.staging import Staging
from sentiment_assets.streaming.status import read_status
from sentiment_assets_tests.integration.stream_helpers import (
    column,
    drain,
    fresh_stream,
    save_tiny_model,
    send,
    tweet,
)

pytestmark = [pytest.mark.spark, pytest.mark.broker]
QUIET = Console(quiet=True)
ALL = Bound()


@pytest.fixture(scope="module")
def scored(spark: SparkSession, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A stream that has scored 60 messages in two leases, and a contrary model beside the chosen one."""
    settings = fresh_stream(spark, tmp_path_factory.mktemp("scored") / "home", broker)
    for begin in (0, 40):
        send(settings, (tweet(n, "happy" if n % 3 else "sad") for n in range(begin, begin + 40 - begin // 2)))
        drain(spark, settings)
    return settings


@pytest.fixture
def contrary(spark: SparkSession, scored: Settings) -> str:
    return save_tiny_model(spark, ModelStore(scored.models), promote=False, contrary=True)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescores, "PIECE_ROWS", 16)
    monkeypatch.setattr(backfills, "PIECE_MESSAGES", 3)


def scores(settings: Settings, version: int | None = None) -> dict[str, tuple[str, str]]:
    """Tweet id -> sentiment and model, of the live topic."""
    table = DeltaTable(str(settings.table("predictions")), version=version).to_pyarrow_table()
    return {
        row["tweet_id"]: (row["sentiment"], row["model_version"])
        for row in table.to_pylist()
        if row["topic"] == settings.topic
    }


def assert_sound(settings: Settings, predictions: int) -> None:
    status = read_status(settings)
    assert (status["predictions"], status["gaps"], status["duplicates"]) == (predictions, 0, 0)


def test_a_rescore_is_one_commit_and_the_old_scores_stay_readable(scored: Settings, contrary: str) -> None:
    before, old = table_version(scored.table("predictions")), scores(scored)
    result = rescore(scored, ALL, ALL, contrary, QUIET)
    assert (result["rows"], result["table_version"], result["before"]) == (60, before + 1, before)
    new = scores(scored)
    assert {version for _, version in new.values()} == {contrary}
    assert all(new[tweet_id][0] != sentiment for tweet_id, (sentiment, _) in old.items())
    assert scores(scored, before) == old
    assert_sound(scored, 60)
    assert not list((scored.root / "staging").iterdir())


def test_a_rescore_that_was_killed_half_way_goes_on_and_ends_alike(
    spark: SparkSession, scored: Settings, contrary: str
) -> None:
    staging = Staging(scored, job_name(ALL, ALL, contrary))
    # The band is that of the plan: half of a rescore with another one would be a mixture.
    banded = scored.model_copy(update={"neutral_band": "model"})
    plan = staging.open(plan_rescore(banded, ALL, ALL, contrary))
    model = load_model(ModelStore(scored.models), contrary)
    first = next(iter(plan.pieces))
    stage_piece(spark, scored, staging, plan, first, model)
    (staging.folder / ".piece-00001").mkdir()
    result = rescore(scored, ALL, ALL, contrary, QUIET)
    assert (result["rows"], result["resumed"]) == (60, 1)
    assert set(scores(scored).values()) == {("neutral", contrary)}
    assert_sound(scored, 60)


def test_a_range_by_version_or_by_time_leaves_the_rest_alone(scored: Settings, contrary: str) -> None:
    table = DeltaTable(str(scored.table("predictions")))
    writes = [entry for entry in table.history() if entry["operation"] == "WRITE"]
    first_lease = min(entry["version"] for entry in writes)
    rows_then = scores(scored, first_lease)
    result = rescore(scored, Bound(version=first_lease), ALL, contrary, QUIET)
    assert result["rows"] == 60 - len(rows_then)
    changed = {tweet_id for tweet_id, (_, version) in scores(scored).items() if version == contrary}
    assert changed == set(scores(scored)) - set(rows_then)
    with pytest.raises(StreamError, match="No prediction is in this range"):
        rescore(scored, Bound(moment=datetime(2100, 1, 1, tzinfo=UTC)), ALL, contrary, QUIET)
    with pytest.raises(StreamError, match="has no version 9999"):
        rescore(scored, Bound(version=9999), ALL, contrary, QUIET)


def test_beside_a_running_stream_the_stream_commits(
    spark: SparkSession, scored: Settings, contrary: str
) -> None:
    results: list[dict[str, Any]] = []
    work = threading.Thread(target=lambda: results.append(rescore(scored, ALL, ALL, contrary, QUIET)))

    def on_progress(progress: Any) -> None:
        if progress.ready and work.ident is None:
            work.start()
            send(scored, [tweet(60)])

    def should_stop() -> str | None:
        return "rescored" if work.ident is not None and not work.is_alive() else None

    lease = drain(spark, scored, until_drained=False, on_progress=on_progress, should_stop=should_stop)
    work.join(60)
    assert (lease.reason, lease.rows, len(results)) == ("rescored", 1, 1)
    assert results[0]["rows"] in (60, 61)
    assert len(scores(scored)) == 61
    assert_sound(scored, 61)


def test_a_backfill_fills_in_once_beside_the_topic(scored: Settings, tmp_path: Path) -> None:
    sound = read_status(scored)["predictions"]
    file = tmp_path / "history.jsonl"
    lines = [json.dumps({"id": f"h{n}", "text": f"happy {n}"}).encode() for n in range(7)]
    file.write_bytes(b"\n".join([*lines, b"no json", b"\xff"]) + b"\n")
    first = backfill(scored, file, None, "UTF-8", QUIET)
    assert (first["rows"], first["topic"].startswith("backfill:")) == (9, True)
    assert_sound(scored, sound + 7)
    again = backfill(scored.model_copy(update={"neutral_band": "model"}), file, None, "UTF-8", QUIET)
    assert again["topic"] == first["topic"]
    assert_sound(scored, sound + 7)
    assert column(scored, "predictions", "sentiment").count("neutral") == 7
    assert sorted(column(scored, "dead_letters", "reason")) == ["not JSON", "not UTF-8"]
    assert sorted(column(scored, "dead_letters", "offset")) == [7, 8]


def test_a_backfill_before_the_first_message_does_not_keep_the_stream_from_starting(
    spark: SparkSession, broker: str, tmp_path: Path
) -> None:
    settings = fresh_stream(spark, tmp_path / "home", broker)
    history = tmp_path / "history.jsonl"
    history.write_text("".join(json.dumps({"id": f"h{n}", "text": f"happy {n}"}) + "\n" for n in range(5)))
    assert backfill(settings, history, None, "UTF-8", QUIET)["rows"] == 5
    send(settings, [tweet(1), tweet(2)])
    assert drain(spark, settings).rows == 2
    assert_sound(settings, 7)
