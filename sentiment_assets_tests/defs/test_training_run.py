"""Training as Dagster runs it, with real Spark and Delta: a good run, and what a bad one must not touch."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    build_asset_context,
    instance_for_test,
)
from deltalake import DeltaTable

from sentiment_assets import keys
from sentiment_assets.build import build_definitions
from sentiment_assets.defs.chosen_model import _can_serve, _current
from sentiment_assets.local.runs import RunFollower
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.provenance import read_provenance
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.settings import Settings
from sentiment_assets.sources import generated
from sentiment_assets.spark import delta
from sentiment_assets.spark.evaluation import halves_of
from sentiment_assets.spark.evidence import read_scores, read_terms

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark
WANTED = [
    *((name,) for name in (keys.RAW_TWEETS, keys.CLEANED_TWEETS, keys.TRAIN_TWEETS, keys.TEST_TWEETS)),
    (keys.FEATURES, "hashing"),
    (keys.CANDIDATES, "hashing_naive_bayes"),
    (keys.CHOSEN_MODEL,),
    (keys.LEARNING_CURVE,),
    (keys.TRAINING_REPORT,),
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
    return definitions.resolve_job_def(keys.JOB_RETRAIN_FULL).execute_in_process(
        instance=instance,
        raise_on_error=False,
        asset_selection=[AssetKey(list(path)) for path in wanted],
        run_config={"ops": {keys.RAW_TWEETS: {"config": {"data": str(data)}}}},
    )


def causes(instance: DagsterInstance, result: ExecuteInProcessResult) -> str:
    """What a person is told about the failures of a run."""
    follower = RunFollower(instance, result.run_id, lambda _: None)
    follower.poll()
    return "; ".join(follower.failures)


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


def test_the_report_of_the_run_names_the_sample_the_model_and_its_learning_curve(
    trained: ExecuteInProcessResult, home: Settings
) -> None:
    found = trained.asset_materializations_for_node(keys.TRAINING_REPORT)[0].metadata
    page = Path(str(found["page"].value))
    assert page.parent == home.reports
    html = page.read_text(encoding="utf-8")
    assert "Naive Bayes on hashed words" in html
    assert "your file" in html
    assert "Naive Bayes on hashed words" in str(found["verdict"].value)
    assert "accuracy changed by" in html
    assert "features/hashing" in html
    curve = trained.asset_materializations_for_node(keys.LEARNING_CURVE)[0].metadata["points"].value
    rows = [record.data["rows"] for record in curve.records]  # type: ignore[union-attr]
    assert rows == sorted(rows)
    assert rows[-1] == delta.row_count(home.table(keys.TRAIN_TWEETS))


def test_what_a_candidate_showed_is_kept_beside_it(trained: ExecuteInProcessResult, home: Settings) -> None:
    store = ModelStore(home.models)
    manifest = store.manifest(store.chosen() or "")
    scores = read_scores(store.folder(manifest.version, deep=True))
    assert scores is not None
    assert halves_of(scores).as_dict().items() <= manifest.metrics.items()
    assert 0 <= manifest.metrics["neutral_band"] < 0.5
    assert read_terms(store.folder(manifest.version)) is not None


def test_a_search_goes_on_where_it_stopped_and_its_winner_can_be_trained(
    trained: ExecuteInProcessResult, home: Settings, instance: DagsterInstance
) -> None:
    job = build_definitions(home).resolve_job_def(keys.JOB_TUNE)

    def search(trials: int) -> ExecuteInProcessResult:
        return job.execute_in_process(
            instance=instance,
            asset_selection=[AssetKey(keys.TUNING)],
            run_config={
                "ops": {keys.TUNING: {"config": {"candidate": "hashing_naive_bayes", "trials": trials}}}
            },
        )

    first = table_of(search(2))
    last = search(4)
    again = table_of(last)
    assert len(again) == 4
    assert {number: again[number] for number in first} == first
    found = last.asset_materializations_for_node(keys.TUNING)[0].metadata
    config = found["run_config"].value
    assert isinstance(config, dict)
    tuned = (
        build_definitions(home)
        .resolve_job_def(keys.JOB_RETRAIN)
        .execute_in_process(
            instance=instance,
            asset_selection=[
                AssetKey([keys.FEATURES, "hashing"]),
                AssetKey([keys.CANDIDATES, "hashing_naive_bayes"]),
            ],
            run_config=config,
        )
    )
    assert tuned.success
    manifest = ModelStore(home.models).latest("candidate", "hashing_naive_bayes")
    assert manifest is not None
    settings = config["ops"]["candidates__hashing_naive_bayes"]["config"]
    assert manifest.params["smoothing"] == settings.get("smoothing", 1.0)


def table_of(result: ExecuteInProcessResult) -> dict[object, object]:
    """Trial number -> row of the table of trials."""
    table = result.asset_materializations_for_node(keys.TUNING)[0].metadata["trials"].value
    return {record.data["trial"]: record.data for record in table.records}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("setting", "cause"),
    [
        ({"features__hashing": {"config": {"buckets": 2**25}}}, "buckets = 33554432"),
        ({"candidates__hashing_naive_bayes": {"config": {"smoothing": math.nan}}}, "smoothing = nan"),
    ],
    ids=["over the cap", "not a number"],
)
def test_a_setting_that_cannot_be_used_is_one_sentence_and_changes_nothing(
    trained: ExecuteInProcessResult,
    home: Settings,
    instance: DagsterInstance,
    setting: dict[str, object],
    cause: str,
) -> None:
    before = {m.version for m in ModelStore(home.models).versions()}
    result = (
        build_definitions(home)
        .resolve_job_def(keys.JOB_RETRAIN)
        .execute_in_process(
            instance=instance,
            raise_on_error=False,
            asset_selection=[AssetKey(next(iter(setting)).split("__"))],
            run_config={"ops": setting},
        )
    )
    assert not result.success
    told = causes(instance, result)
    assert cause in told
    assert "\n" not in told
    assert {m.version for m in ModelStore(home.models).versions()} == before


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a good day {n}", "training rows are left"),
        ("@someone http://example.org/{n}", "None of the 50 tweets is left after cleaning (50 empty texts)"),
    ],
    ids=["50 rows", "nothing but links"],
)
def test_too_few_rows_to_learn_from_are_counted_and_the_model_stays(
    text: str, cause: str, tmp_path: Path, spark: "SparkSession", instance: DagsterInstance
) -> None:
    home = Settings(home=tmp_path / "home").prepare()
    file = tmp_path / "tweets.csv"
    file.write_text(
        "".join(
            f'"{label}","{n}","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","someone","{text.format(n=n)}"\n'
            for n in range(50)
            for label in [4 if n % 2 else 0]
        )
    )
    result = run(build_definitions(home), instance, file, WANTED[:-2])
    assert not result.success
    assert cause in causes(instance, result)
    assert ModelStore(home.models).chosen() is None


def test_the_chosen_model_says_how_it_will_be_served(trained: ExecuteInProcessResult) -> None:
    metadata = trained.asset_materializations_for_node(keys.CHOSEN_MODEL)[0].metadata
    assert "MLlib pipeline (its features or its text rules" in str(metadata["scorer"].value)


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


def test_a_model_of_another_split_has_no_figure_on_the_test_rows_of_this_one(
    trained: ExecuteInProcessResult, home: Settings, spark: "SparkSession"
) -> None:
    store, resource = ModelStore(home.models), SparkResource(home, "training")
    made_of = replace(read_provenance(home.table(keys.TRAIN_TWEETS)), data_version="other tweets")
    reseeded = home.model_copy(update={"seed": 1})
    with build_asset_context() as context:
        same = _current(context, home, resource, store, made_of)
        others = [
            _current(context, home, resource, store, replace(made_of, seed=1)),
            _current(context, home, resource, store, replace(made_of, test_fraction=0.5)),
            # A table of an older release does not tell the seed.
            _current(context, reseeded, resource, store, replace(made_of, seed=None)),
        ]
    assert same is not None
    assert same.metrics["selection_accuracy"] > 0.5
    assert [found and found.metrics for found in others] == [{}, {}, {}]


def test_a_candidate_that_cannot_be_served_is_passed_over(
    trained: ExecuteInProcessResult, home: Settings, tmp_path: Path
) -> None:
    store = ModelStore(Path(shutil.copytree(home.models, tmp_path / "models")))
    candidate = store.latest("candidate", "hashing_naive_bayes")
    assert candidate is not None
    with build_asset_context() as context:
        assert _can_serve(context, store, candidate)
        next((store.root / candidate.version / "pipeline").rglob("*.parquet")).unlink()
        assert not _can_serve(context, store, candidate)


def test_a_run_without_config_reads_what_the_settings_name(
    trained: ExecuteInProcessResult, sample: Path, tmp_path: Path
) -> None:
    tweets = tmp_path / "tweets.csv"
    tweets.write_text(sample.read_text("ISO-8859-1") + "".join(
        f'"{label}","{label}","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","zoë","café {label}"\n' for label in (0, 4)
    ), encoding="UTF-8")  # fmt: skip
    home = Settings(home=tmp_path / "home", data=str(tweets), train_rows="500", encoding="utf-8").prepare()
    job = build_definitions(home).resolve_job_def(keys.JOB_RETRAIN_FULL)

    def rows(**config: int) -> int:
        with instance_for_test() as own:
            result = job.execute_in_process(
                instance=own,
                asset_selection=[AssetKey(keys.RAW_TWEETS)],
                run_config={"ops": {keys.RAW_TWEETS: {"config": config}}},
            )
        assert result.success
        return delta.row_count(home.table(keys.RAW_TWEETS))

    assert rows() <= 500
    assert rows(rows=0) > 2000
    table = DeltaTable(str(home.table(keys.RAW_TWEETS)))
    assert "café 4" in table.to_pyarrow_table(columns=["text"])["text"].to_pylist()


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
