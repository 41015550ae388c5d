"""When a lease ends, what it refuses, and how it says so."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from sentiment_assets.failures import BrokerError, ModelError, StreamError
from sentiment_assets.kafka.client import ensure_topic, remove_topic
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.models.store import ModelStore
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import ensure_table, row_count
from sentiment_assets.streaming.care import SMALL_FILES, care_for_tables, small_files
from sentiment_assets.streaming.exclusive import exclude_streams
from sentiment_assets.streaming.heartbeat import Phase, read_heartbeat, request_stop
from sentiment_assets.streaming.progress import Progress
from sentiment_assets.streaming.reset import reset_stream
from sentiment_assets.streaming.scored_files import Scoring
from sentiment_assets.streaming.sink import Sink
from sentiment_assets.streaming.status import read_status
from sentiment_assets_tests.integration.stream_helpers import (
    column,
    drain,
    fresh_stream,
    save_tiny_model,
    send,
    tweet,
)
from sentiment_assets_tests.unit.test_lake_files import predicted
from sentiment_assets_tests.webhook import listening, with_webhook

pytestmark = [pytest.mark.spark, pytest.mark.broker]


def once_ready(act: Callable[[], object]) -> Callable[[Progress], None]:
    """A progress callback that acts the first time the stream consumes."""
    done: list[object] = []

    def on_progress(progress: Progress) -> None:
        if progress.ready and not done:
            done.append(True)
            act()

    return on_progress


def test_a_newer_model_ends_the_lease_and_the_next_one_serves_it(spark: SparkSession, live: Settings) -> None:
    store = ModelStore(live.models)
    old = store.chosen()
    promote = once_ready(lambda: save_tiny_model(spark, store))
    result = drain(spark, live, until_drained=False, on_progress=promote)
    new = store.chosen()
    assert (result.reason, result.model_version) == (f"newer model {new}", old)
    send(live, [tweet(20)])
    assert drain(spark, live).model_version == new
    assert set(column(live, "predictions", "model_version")) == {old, new}
    assert (read_status(live)["gaps"], read_status(live)["duplicates"]) == (0, 0)


def test_a_lease_with_a_named_model_does_not_follow_the_chosen_one(
    spark: SparkSession, live: Settings
) -> None:
    store = ModelStore(live.models)
    other = save_tiny_model(spark, store, promote=False)
    result = drain(spark, live, model_version=other)
    assert (result.reason, result.model_version) == ("drained", other)


def test_a_second_stream_and_a_reset_are_refused_while_one_runs(spark: SparkSession, live: Settings) -> None:
    refusals: list[str] = []

    def meanwhile() -> None:
        for attempt in (lambda: drain(spark, live), lambda: reset_stream(live)):
            with pytest.raises(StreamError, match="Another stream writes") as refusal:
                attempt()
            refusals.append(str(refusal.value))

    drain(spark, live, on_progress=once_ready(meanwhile))
    assert len(refusals) == 2
    assert all("in the foreground" in refusal for refusal in refusals)
    with exclude_streams(live):
        pass


def test_a_request_to_stop_is_followed_once_and_reported(spark: SparkSession, live: Settings) -> None:
    ask = once_ready(lambda: request_stop(live, "the main job ends"))
    assert drain(spark, live, until_drained=False, on_progress=ask).reason == "the main job ends"
    beat = read_heartbeat(live)
    assert beat is not None
    assert (beat.phase, beat.detail) == (Phase.STOPPED, "the main job ends")
    assert drain(spark, live).reason == "drained"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"lease_seconds": 1}, "lease time is over"),
        ({"idle_seconds": 1}, "idle for 1 s"),
        ({"should_stop": lambda: "SIGTERM"}, "SIGTERM"),
    ],
)
def test_a_lease_ends_by_its_limits(
    spark: SparkSession, live: Settings, limits: dict[str, object], reason: str
) -> None:
    assert drain(spark, live, until_drained=False, **limits).reason == reason


def test_a_checkpoint_without_its_table_is_refused(spark: SparkSession, live: Settings) -> None:
    aside = live.root / "aside"
    shutil.move(live.table("predictions"), aside)
    with pytest.raises(StreamError, match=r"checkpoint .* has no table.*reset --stream"):
        drain(spark, live)
    shutil.rmtree(live.table("predictions"), ignore_errors=True)
    shutil.move(aside, live.table("predictions"))


def test_a_table_without_its_checkpoint_is_refused(spark: SparkSession, live: Settings) -> None:
    aside = live.root / "aside"
    shutil.move(live.checkpoints / "predictions", aside)
    with pytest.raises(
        StreamError, match=r"rows of the topic .*, but its checkpoint .* is missing.*reset --stream"
    ):
        drain(spark, live)
    shutil.rmtree(live.checkpoints / "predictions", ignore_errors=True)
    shutil.move(aside, live.checkpoints / "predictions")


def test_the_checkpoint_of_another_table_is_refused(
    spark: SparkSession, live: Settings, broker: str, tmp_path: Path
) -> None:
    other = fresh_stream(spark, tmp_path / "home", broker)
    send(other, [tweet(1)])
    drain(spark, other)
    mixed = live.model_copy(update={"home": tmp_path / "mixed"}).prepare()
    shutil.copytree(live.models, mixed.models, dirs_exist_ok=True)
    shutil.copytree(live.checkpoints, mixed.checkpoints, dirs_exist_ok=True)
    shutil.copytree(other.lake, mixed.lake, dirs_exist_ok=True)
    with pytest.raises(StreamError, match="belongs to another table"):
        drain(spark, mixed)


def test_a_topic_made_anew_is_refused_and_a_reset_starts_over(
    spark: SparkSession, broker: str, tmp_path: Path
) -> None:
    settings = fresh_stream(spark, tmp_path / "home", broker)
    send(settings, (tweet(n) for n in range(5)))
    drain(spark, settings)
    remove_topic(Cluster(broker), settings.topic)
    ensure_topic(Cluster(broker), settings.topic, settings.topic_partitions)
    send(settings, (tweet(n) for n in range(3)))
    with pytest.raises(StreamError, match=r"made anew.*reset --stream"):
        drain(spark, settings)
    reset_stream(settings)
    assert read_status(settings)["predictions"] == 0
    assert drain(spark, settings).rows == 3


def test_a_reset_that_was_killed_half_way_is_finished_by_the_next_lease(
    spark: SparkSession, broker: str, tmp_path: Path
) -> None:
    settings = fresh_stream(spark, tmp_path / "home", broker)
    send(settings, (tweet(n) for n in range(5)))
    drain(spark, settings)
    (settings.run / "stream.reset").touch()
    shutil.rmtree(settings.checkpoints)
    assert drain(spark, settings).rows == 5
    assert read_status(settings)["predictions"] == 5


def test_messages_that_retention_took_unscored_are_an_error_with_a_next_step(
    spark: SparkSession, broker: str, tmp_path: Path
) -> None:
    settings = fresh_stream(spark, tmp_path / "home", broker, topic_partitions=1)
    send(settings, (tweet(n) for n in range(5)))
    drain(spark, settings)
    send(settings, (tweet(n) for n in range(5, 20)))
    gone = TopicPartition(settings.topic, 0, 15)
    with AdminClient({"bootstrap.servers": broker}) as admin:
        for deleted in admin.delete_records([gone]).values():
            deleted.result(timeout=30)
    with pytest.raises(StreamError, match=r"Kafka no longer has.*reset --stream"):
        drain(spark, settings)
    beat = read_heartbeat(settings)
    assert beat is not None
    assert beat.state.startswith("stopped: Kafka no longer has")


def test_tweets_inside_the_models_own_band_are_neutral_where_that_is_asked_for(
    spark: SparkSession, broker: str, tmp_path: Path
) -> None:
    settings = fresh_stream(spark, tmp_path / "home", broker)
    send(settings, (tweet(n) for n in range(3)))
    drain(spark, settings)
    send(settings, (tweet(n) for n in range(2)))
    drain(spark, settings.model_copy(update={"neutral_band": "model"}))
    assert Counter(column(settings, "predictions", "sentiment")) == {"positive": 3, "neutral": 2}


def test_without_a_broker_the_lease_fails_with_a_next_step(
    spark: SparkSession, live: Settings, tmp_path: Path
) -> None:
    shutil.copytree(live.models, tmp_path / "home" / "models")
    alone = Settings(home=tmp_path / "home").prepare()
    with pytest.raises(BrokerError, match="kafka start"):
        drain(spark, alone)
    with exclude_streams(alone):
        pass


def test_without_a_model_or_with_a_damaged_one_the_lease_fails_with_a_next_step(
    spark: SparkSession, broker: str, live: Settings, tmp_path: Path
) -> None:
    empty = Settings(home=tmp_path / "home", kafka_bootstrap=broker, topic=live.topic).prepare()
    with pytest.raises(ModelError, match="train"):
        drain(spark, empty)
    version = save_tiny_model(spark, ModelStore(empty.models))
    next((empty.models / version).rglob("*.parquet")).unlink()
    with pytest.raises(ModelError, match="lacks its file"):
        drain(spark, empty)


@pytest.mark.parametrize("scoring", [None, Scoring("", "", "", "", 0.0)], ids=["by Spark", "beside Spark"])
def test_many_small_files_are_merged_and_a_few_are_left_alone(
    spark: SparkSession, settings: Settings, scoring: Scoring | None
) -> None:
    path = settings.table(PREDICTIONS.name)
    ensure_table(path, PREDICTIONS)
    rows = predicted([1, 2])
    for _ in range(SMALL_FILES - 1):
        write_deltalake(str(path), rows, mode="append")
    care_for_tables(spark, settings, Sink(settings, scoring))
    assert small_files(path) == SMALL_FILES - 1
    write_deltalake(str(path), rows, mode="append")
    care_for_tables(spark, settings, Sink(settings, scoring))
    assert small_files(path) == 1
    assert row_count(path) == 2 * SMALL_FILES


def test_care_that_fails_is_told_once_and_scoring_goes_on(
    spark: SparkSession, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentiment_assets.streaming.lease._CARE_SECONDS", 0.5)
    settings = fresh_stream(spark, tmp_path / "home", broker)
    send(settings, (tweet(n) for n in range(5)))
    drain(spark, settings)

    def damage() -> None:
        for commit in (settings.table("dead_letters") / "_delta_log").glob("*.json"):
            commit.write_text("{")
        send(settings, (tweet(n) for n in range(5, 10)))

    with listening() as webhook:
        watched = with_webhook(settings, webhook.url)
        result = drain(
            spark, watched, until_drained=False, idle_seconds=4, lease=1, on_progress=once_ready(damage)
        )
    assert (result.reason, result.rows) == ("idle for 4 s", 5)
    (told,) = webhook.got
    assert "care for the stream's tables fails" in told["text"]
