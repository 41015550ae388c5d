"""The stream scores with the compiled model when it may, with the pipeline when it may not, and says which and why."""

import shutil

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sentiment_assets.models.manifest import Draft, Scorer, Source
from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings
from sentiment_assets.spark.compiled.model import CompiledModel
from sentiment_assets.spark.features import VARIANTS, fit_features
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.training import ALGORITHMS, cached_vectors, fit_candidate
from sentiment_assets.streaming.compilation import compile_version, is_compiled_here
from sentiment_assets.streaming.serving import load_model, serve
from sentiment_assets.streaming.status import read_status
from sentiment_assets_tests.integration.stream_helpers import (
    column,
    drain,
    fresh_stream,
    save_tiny_model,
    send,
    tweet,
)
from sentiment_assets_tests.spark.conftest import made_up_tweets

pytestmark = [pytest.mark.spark, pytest.mark.broker]

TEXTS = ["Love it, so happy \U0001f600", "not happy, sooo sad but &amp;", "caf\u00e9 http://a.b @me", "zzz"]


@pytest.fixture(scope="module")
def live(spark: SparkSession, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A stream whose chosen model is ours, stored but not compiled yet."""
    settings = fresh_stream(spark, tmp_path_factory.mktemp("compiled") / "home", broker)
    train = spark.createDataFrame(made_up_tweets(300), "text STRING, label DOUBLE").coalesce(2)
    features = fit_features(VARIANTS["nb_ngrams"], train)
    with cached_vectors(features, train) as vectors:
        model = fit_candidate(features.model, vectors, ALGORITHMS["logistic_regression"], seed=1)
    draft = Draft(
        kind="candidate",
        name="nb_ngrams_logistic_regression",
        variant="nb_ngrams",
        algorithm="logistic_regression",
        source=Source(kind="generated", file="none", note="made up"),
        rows_train=300,
        data_version="1",
        code_version=f"{VARIANTS['nb_ngrams'].code_version}.{ALGORITHMS['logistic_regression'].code_version}",
        seed=1,
    )
    store = ModelStore(settings.models)
    version = store.save(draft, lambda folder: model.save(str(folder / "pipeline"))).version
    store.promote(version, "a test")
    return settings


@pytest.fixture(scope="module")
def version(spark: SparkSession, live: Settings) -> str:
    """The chosen version, compiled and found to agree."""
    chosen = ModelStore(live.models).chosen()
    assert chosen is not None
    held_out = spark.createDataFrame(made_up_tweets(50, seed=3), "text STRING, label DOUBLE")
    scorer = compile_version(spark, live, chosen, held_out)
    assert scorer.compiled, scorer.reason
    assert is_compiled_here(spark, scorer)
    assert scorer.labels_differ == 0
    assert scorer.rows > 2000
    return chosen


def test_the_stream_scores_compiled_exactly_what_the_pipeline_scores(
    spark: SparkSession, live: Settings, version: str
) -> None:
    send(live, [tweet(n, text) for n, text in enumerate(TEXTS * 25)])
    result = drain(spark, live)
    assert (result.rows, result.model_version) == (100, version)
    assert result.scorer.startswith("compiled (")
    assert read_status(live)["stream"]["scorer"] == result.scorer
    assert (read_status(live)["gaps"], read_status(live)["duplicates"]) == (0, 0)
    table = DeltaTable(str(live.table("predictions"))).to_pandas()[["text", "probability", "sentiment"]]
    pipeline = load_model(ModelStore(live.models), version)
    expected = {
        row["text"]: row["probability"]
        for row in score(pipeline, spark.createDataFrame(table[["text"]])).collect()
    }
    for row in table.itertuples():
        assert row.probability == pytest.approx(expected[row.text], abs=1e-9)
        assert row.sentiment == ("positive" if expected[row.text] > 0.5 else "negative")


def test_damaged_tables_mean_the_pipeline_and_the_lease_says_so(
    spark: SparkSession, live: Settings, version: str
) -> None:
    store = ModelStore(live.models)
    slots = store.scorer(version)[1] / "word_slots.npy"
    content = slots.read_bytes()
    slots.write_bytes(content[:-8])
    send(live, [tweet(1000)])
    try:
        result = drain(spark, live)
    finally:
        slots.write_bytes(content)
    assert (result.rows, result.scorer) == (1, "MLlib pipeline (its compiled tables are damaged)")
    assert len(column(live, "predictions", "offset")) == 101


def test_tables_of_another_java_do_not_serve(spark: SparkSession, live: Settings, version: str) -> None:
    store = ModelStore(live.models)
    sound = store.scorer(version)[0]
    other = Scorer(compiled=True, reason="shown", made_with=sound.made_with | {"java": "8"})
    try:
        store.attach_scorer(version, lambda _: other)
        served = serve(spark, live, version)
    finally:
        compile_version(spark, live, version)
    assert "it was compiled with compiler 1, java 8" in served.scorer
    assert not isinstance(served.model, CompiledModel)


def test_executors_that_cannot_read_the_tables_are_noticed_before_the_first_batch(
    spark: SparkSession, live: Settings, version: str
) -> None:
    store = ModelStore(live.models)
    sound = store.scorer(version)[0]
    try:
        store.attach_scorer(version, lambda _: sound.model_copy(update={"files": {}}))
        served = serve(spark, live, version)
    finally:
        compile_version(spark, live, version)
    assert served.scorer.startswith("MLlib pipeline (the kernel does not run here: ")


def test_a_compilation_that_breaks_off_is_no_verdict_and_leaves_what_serves(
    spark: SparkSession, live: Settings, version: str
) -> None:
    store, no_texts = ModelStore(live.models), spark.range(1)
    assert compile_version(spark, live, version, no_texts).compiled
    assert store.scorer(version, deep=True)[0].compiled
    shutil.rmtree(store.root / version / "compiled")
    try:
        scorer = compile_version(spark, live, version, no_texts)
    finally:
        compile_version(spark, live, version)
    assert (scorer.compiled, is_compiled_here(spark, scorer)) == (False, False)
    assert scorer.reason.startswith("compiling it failed: ")


def test_a_model_without_a_kernel_is_served_by_its_pipeline(spark: SparkSession, live: Settings) -> None:
    version = save_tiny_model(spark, ModelStore(live.models), promote=False)
    scorer = compile_version(spark, live, version)
    assert (scorer.compiled, is_compiled_here(spark, scorer)) == (False, True)
    assert "its features or its text rules" in serve(spark, live, version).scorer
