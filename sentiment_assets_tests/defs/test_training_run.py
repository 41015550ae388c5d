"""Training as Dagster runs it, with real Spark and Delta: a good run, and what a bad one must not touch."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dagster import AssetKey, DagsterInstance, Definitions, ExecuteInProcessResult, instance_for_test

from sentiment_assets import keys
from sentiment_assets.build import build_definitions
from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings
from sentiment_assets.sources import generated
from sentiment_assets.spark import delta

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark
WANTED = [
    *((name,) for name in (keys.RAW_TWEETS, keys.CLEANED_TWEETS, keys.TRAIN_TWEETS, keys.TEST_TWEETS)),
    (keys.FEATURES, "hashing"),
    (keys.CANDIDATES, "hashing_naive_bayes"),
    (keys.CHOSEN_MODEL,),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("training") / "home").prepare()


@pytest.fixture(scope="module")
def instance() -> Iterator[DagsterInstance]:
    with instance_for_test() as made:
        yield made


@pytest.fixture(scope="module")
def sample(home: Settings) -> Path:
    return generated.write(home, rows=2500)


def run(
    definitions: Definitions, instance: DagsterInstance, data: Path, wanted: list[tuple[str, ...]]
) -> ExecuteInProcessResult:
    return definitions.resolve_job_def(keys.JOB_RETRAIN).execute_in_process(
        instance=instance,
        raise_on_error=False,
        asset_selection=[AssetKey(list(path)) for path in wanted],
        run_config={"ops": {keys.RAW_TWEETS: {"config": {"data": str(data)}}}},
    )


@pytest.fixture(scope="module")
def trained(
    home: Settings, instance: DagsterInstance, sample: Path, spark: "SparkSession"
) -> ExecuteInProcessResult:
    return run(build_definitions(home), instance, sample, WANTED)


def test_a_run_from_raw_tweets_to_a_chosen_model_succeeds(
    trained: ExecuteInProcessResult, home: Settings
) -> None:
    assert trained.success
    store = ModelStore(home.models)
    chosen = store.chosen()
    assert chosen is not None
    manifest = store.manifest(chosen)
    assert manifest.rows_train == delta.row_count(home.table(keys.TRAIN_TWEETS))
    assert manifest.run_id == trained.run_id
    assert 0.6 < manifest.metrics["accuracy"] < 0.9


def test_every_row_is_accounted_for(trained: ExecuteInProcessResult, home: Settings) -> None:
    cleaned = trained.asset_materializations_for_node(keys.CLEANED_TWEETS)[0].metadata
    dropped = sum(
        int(str(cleaned[name].value))
        for name in (
            "conflicting_ids",
            "empty_texts",
            "conflicting_texts",
            "exact_duplicates",
            "normalised_duplicates",
        )
    )
    raw = delta.row_count(home.table(keys.RAW_TWEETS))
    parts = [delta.row_count(home.table(name)) for name in (keys.TRAIN_TWEETS, keys.TEST_TWEETS)]
    assert raw - dropped == delta.row_count(home.table(keys.CLEANED_TWEETS)) == sum(parts)


def test_every_check_of_the_training_assets_passes(trained: ExecuteInProcessResult) -> None:
    evaluations = trained.get_asset_check_evaluations()
    assert {e.check_name for e in evaluations} >= {
        "labels_are_known",
        "no_text_is_on_both_sides",
        "no_leakage",
    }
    assert [e.check_name for e in evaluations if not e.passed] == []


def test_a_file_of_one_class_stops_before_it_replaces_good_data(
    trained: ExecuteInProcessResult, home: Settings, instance: DagsterInstance, sample: Path, tmp_path: Path
) -> None:
    before = delta.table_version(home.table(keys.RAW_TWEETS)), ModelStore(home.models).chosen()
    negative = [line for line in sample.read_text("ISO-8859-1").splitlines() if line.startswith('"0"')]
    one_class = tmp_path / "negative.csv"
    one_class.write_text("\n".join(negative) + "\n", encoding="ISO-8859-1")
    result = run(build_definitions(home), instance, one_class, [(keys.RAW_TWEETS,)])
    assert not result.success
    assert (delta.table_version(home.table(keys.RAW_TWEETS)), ModelStore(home.models).chosen()) == before


def test_a_candidate_without_fitted_features_says_what_to_materialize(
    trained: ExecuteInProcessResult, home: Settings, instance: DagsterInstance
) -> None:
    result = (
        build_definitions(home)
        .resolve_job_def(keys.JOB_RETRAIN)
        .execute_in_process(
            instance=instance,
            raise_on_error=False,
            asset_selection=[AssetKey([keys.CANDIDATES, "count_naive_bayes"])],
        )
    )
    assert not result.success
    (failure,) = result.get_step_failure_events()
    assert "features/count" in str(failure.event_specific_data)


def test_an_unchanged_retraining_keeps_the_chosen_model(
    trained: ExecuteInProcessResult, home: Settings, instance: DagsterInstance
) -> None:
    before = ModelStore(home.models).chosen()
    result = (
        build_definitions(home)
        .resolve_job_def(keys.JOB_RETRAIN)
        .execute_in_process(instance=instance, asset_selection=[AssetKey(keys.CHOSEN_MODEL)])
    )
    assert result.success
    assert ModelStore(home.models).chosen() == before
