"""Training and the stream on a real Spark cluster: executors are processes of their own, state is shared by URI.

Run by `make test-cluster`. The tests build on one another: a model is trained, then streamed with.
"""

from pathlib import Path

import pytest

from sentiment_assets.models.store import ModelStore
from sentiment_assets.schemas import CLEANED_TWEETS, RAW_TWEETS, TEST_TWEETS, TRAIN_TWEETS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.training import CANDIDATES
from sentiment_assets_tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster
MESSAGES = 1500
MORE = 700
ONE_MODEL = ",".join(
    (*(table.name for table in (RAW_TWEETS, CLEANED_TWEETS, TRAIN_TWEETS, TEST_TWEETS)),
     "features/hashing", "candidates/hashing_naive_bayes", "chosen_model")
)  # fmt: skip
COMPILED = "features/nb_ngrams,candidates/nb_ngrams_naive_bayes"
"""Counts its terms and makes its vectors in compiled loops."""


@pytest.fixture(scope="module")
def chosen(cluster: Cluster, sample: Path) -> str:
    """A model that executors of the cluster have trained."""
    return str(cluster.json("train", "--data", str(sample), "--select", ONE_MODEL)["chosen"])


def test_the_stream_scores_every_message_once_on_the_cluster(
    cluster: Cluster, chosen: str, sample: Path, bootstrap: str
) -> None:
    before = cluster.applications()
    cluster.command("replay", str(sample), "--limit", str(MESSAGES))
    result = cluster.json("stream", "--until-drained")
    assert (result["rows"], result["reason"]) == (MESSAGES, "drained")
    status = cluster.json("status")
    assert (status["predictions"], status["lag"]) == (MESSAGES, 0)
    assert (status["gaps"], status["duplicates"], status["dead_letters"]) == (0, 0, 0)
    assert len(cluster.applications() - before) == 1


def test_a_submitted_stream_goes_on_where_the_local_one_stopped(
    cluster: Cluster, chosen: str, sample: Path, bootstrap: str
) -> None:
    before = cluster.applications()
    cluster.command("replay", str(sample), "--limit", str(MORE), "--seed", "7")
    submitted = cluster.command(
        *("submit", "spark", "--master", cluster.master, "--property", "spark.driver.host=127.0.0.1"),
        *("--", "stream", "--until-drained"),
        SENTIMENT_KAFKA_BOOTSTRAP=bootstrap,
    )
    # spark-submit joins both outputs of its driver.
    assert "sentiment_assets-0.1.0.zip" in submitted.stdout
    status = cluster.json("status")
    assert (status["predictions"], status["lag"]) == (MESSAGES + MORE, 0)
    assert (status["gaps"], status["duplicates"]) == (0, 0)
    assert len(cluster.applications() - before) == 1


def test_a_submitted_training_keeps_tables_and_models_under_a_uri(
    cluster: Cluster, sample: Path, tmp_path: Path
) -> None:
    before = cluster.applications()
    storage = (tmp_path / "object store").as_uri().replace("%20", " ")
    submitted = cluster.command(
        *("submit", "spark", "--master", cluster.master, "--property", "spark.driver.host=127.0.0.1"),
        *("--storage", storage, "--set", f"SENTIMENT_HOME={tmp_path / 'home'}"),
        *("--", "train", "--data", sample.as_uri(), "--select", f"{ONE_MODEL},{COMPILED}"),
    )
    # Driver and executors import the package from the zip, the sources of the loops included.
    assert "compiled loops failed" not in submitted.stdout
    there = Settings(home=tmp_path / "home", storage=storage)
    version = ModelStore(there.models).chosen()
    assert version is not None
    assert ModelStore(there.models).folder(version, deep=True)
    assert not (tmp_path / "home" / "lake").exists()
    assert not (tmp_path / "home" / "models").exists()
    assert (tmp_path / "object store" / "lake" / "raw_tweets" / "_delta_log").is_dir()
    assert len(cluster.applications() - before) == 1


def test_the_stream_keeps_its_tables_and_checkpoint_under_a_uri_too(
    cluster: Cluster, chosen: str, sample: Path, bootstrap: str, tmp_path: Path
) -> None:
    storage = tmp_path / "store"
    storage.mkdir()
    (storage / "models").symlink_to(cluster.home / "models")
    elsewhere = {
        "SENTIMENT_HOME": str(tmp_path / "home"),
        "SENTIMENT_STORAGE": storage.as_uri(),
        "SENTIMENT_KAFKA_BOOTSTRAP": bootstrap,
        "SENTIMENT_TOPIC": "by-uri",
    }
    for seed in ("1", "2"):
        cluster.command("replay", str(sample), "--limit", "500", "--seed", seed, **elsewhere)
        result = cluster.json("stream", "--until-drained", **elsewhere)
        assert (result["rows"], result["reason"]) == (500, "drained")
    status = cluster.json("status", **elsewhere)
    assert (status["predictions"], status["lag"]) == (1000, 0)
    assert (status["gaps"], status["duplicates"], status["dead_letters"]) == (0, 0, 0)
    assert (storage / "checkpoints" / "predictions" / "commits").is_dir()
    assert not (tmp_path / "home" / "checkpoints").exists()


def test_the_quick_profile_goes_on_from_what_the_cluster_has_trained(
    cluster: Cluster, chosen: str, sample: Path
) -> None:
    trained = cluster.json("train", "--data", str(sample), "--profile", "quick")
    assert {row["name"] for row in trained["candidates"]} == {
        c.name for c in CANDIDATES.values() if c.profile == "quick"
    }
    assert "candidates/hashing_naive_bayes" in trained["kept"]
    assert "candidates/nb_ngrams_logistic_regression" in trained["trained"]
    assert trained["chosen"] in {row["version"] for row in trained["candidates"]}
