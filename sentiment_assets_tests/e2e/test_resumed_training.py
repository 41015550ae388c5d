"""A training that was killed goes on where it was: the real command line, Spark, Dagster's records."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus
from dagster._core.test_utils import create_run_for_test

from sentiment_assets import keys
from sentiment_assets.local.instance import open_instance
from sentiment_assets.models.manifest import Draft, Source
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.orphans import process_tags
from sentiment_assets.settings import Settings
from sentiment_assets.sources import generated

pytestmark = pytest.mark.e2e
TABLES = [keys.RAW_TWEETS, keys.CLEANED_TWEETS, keys.TRAIN_TWEETS, keys.TEST_TWEETS]
FEATURES = ["features/hashing", "features/count"]
CANDIDATES = [
    "candidates/hashing_naive_bayes",
    "candidates/hashing_linear_svm",
    "candidates/count_naive_bayes",
    "candidates/count_linear_svm",
]
SELECTED = [*TABLES, *FEATURES, *CANDIDATES, keys.CHOSEN_MODEL]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("resumed") / "home", training_memory="2g").prepare()


@pytest.fixture(scope="module")
def sample(home: Settings) -> Path:
    return generated.write(home, rows=1200)


@pytest.fixture(scope="module")
def chosen_before(home: Settings) -> str:
    """A chosen model from before an upgrade of Spark: it may stay chosen, but nothing can load it."""
    store = ModelStore(home.models)
    draft = Draft(
        kind="candidate",
        name="old_naive_bayes",
        variant="old",
        source=Source(kind="generated", file="none", note="made up"),
        rows_train=1,
        data_version="0",
        code_version="1.1",
        seed=1,
    )
    version = store.save(draft, lambda folder: (folder / "pipeline").write_text("weights")).version
    file = home.models / version / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pins": {"pyspark": "3.5.1"}}))
    store.promote(version, "a test")
    return version


def command(home: Settings, sample: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sentiment_assets", "train", "--data", str(sample), "--profile", "full",
         "--select", ",".join(SELECTED), "--json", *options],
        env=os.environ | {"SENTIMENT_HOME": str(home.root), "SENTIMENT_TRAINING_MEMORY": "2g"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out), err


def makers(instance: DagsterInstance, names: Sequence[str]) -> dict[str, str]:
    """Asset -> the run that materialized it last."""
    made = {}
    for name in names:
        event = instance.get_latest_materialization_event(AssetKey(name.split("/")))
        if event is not None:
            made[name] = event.run_id
    return made


@pytest.fixture(scope="module")
def killed(home: Settings, sample: Path, chosen_before: str) -> dict[str, str]:
    """A training killed with SIGKILL in its third candidate; what it had made, by run."""
    process = command(home, sample)
    begun: list[str] = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "candidates/" in line and "…" in line:
                begun.append(line.split()[0])
            if len(begun) == 3:
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert len(begun) == 3
    with open_instance(home) as instance:
        return makers(instance, SELECTED)


@pytest.fixture(scope="module")
def resumed(killed: dict[str, str], home: Settings, sample: Path) -> tuple[dict[str, Any], str]:
    return finished(command(home, sample))


def test_a_killed_training_leaves_the_chosen_model_and_what_it_had_made(
    killed: dict[str, str], home: Settings, chosen_before: str
) -> None:
    assert ModelStore(home.models).chosen() == chosen_before
    assert {name for name in killed if name in TABLES} == set(TABLES)
    assert sum(name in CANDIDATES for name in killed) in (2, 3)
    assert keys.CHOSEN_MODEL not in killed


def test_a_rerun_makes_only_what_is_missing_and_says_what_it_keeps(
    killed: dict[str, str], resumed: tuple[dict[str, Any], str], home: Settings
) -> None:
    result, said = resumed
    missing = set(SELECTED) - killed.keys()
    assert set(result["trained"]) == missing
    assert set(result["kept"]) == set(killed)
    (_, kept) = said.replace("\n", " ").split("kept ")
    assert all(name in kept for name in killed)
    with open_instance(home) as instance:
        now = makers(instance, SELECTED)
    assert {name: now[name] for name in killed} == killed
    assert {now[name] for name in missing} == {result["run_id"]}


def test_the_killed_run_is_recorded_as_failed(
    killed: dict[str, str], resumed: tuple[dict[str, Any], str], home: Settings
) -> None:
    (run_id,) = set(killed.values())
    with open_instance(home) as instance:
        run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == DagsterRunStatus.FAILURE


def test_the_leaderboard_has_the_kept_candidates_too_and_one_of_all_is_chosen(
    resumed: tuple[dict[str, Any], str],
) -> None:
    result, _ = resumed
    assert {f"candidates/{row['name']}" for row in result["candidates"]} == set(CANDIDATES)
    assert result["chosen"] in {row["version"] for row in result["candidates"]}


def test_a_third_call_has_nothing_to_train(
    resumed: tuple[dict[str, Any], str], home: Settings, sample: Path
) -> None:
    result, said = finished(command(home, sample))
    assert (result["trained"], result["run_id"]) == ([], None)
    assert set(result["kept"]) == set(SELECTED)
    assert result["chosen"] == resumed[0]["chosen"]
    assert "--force" in said
    assert len(result["candidates"]) == len(CANDIDATES)


def test_a_training_beside_one_of_dagsters_is_refused(
    resumed: tuple[dict[str, Any], str], home: Settings, sample: Path
) -> None:
    with open_instance(home) as instance:
        run_id = str(uuid.uuid4())
        tags = {keys.TAG_ROLE: keys.JOB_RETRAIN, **process_tags(run_id)}
        other = create_run_for_test(
            instance, run_id=run_id, job_name=keys.JOB_RETRAIN, status=DagsterRunStatus.STARTED, tags=tags
        )
        refused = command(home, sample)
        _, said = refused.communicate(timeout=120)
        assert refused.returncode == 1
        assert f"A training is under way in Dagster (run {run_id[:8]}" in said
        instance.report_run_failed(other, "it was made up")


def test_another_seed_or_damaged_files_are_noticed_before_anything_runs(
    resumed: tuple[dict[str, Any], str], home: Settings, sample: Path
) -> None:
    from rich.console import Console

    from sentiment_assets.local.artefacts import Tweets
    from sentiment_assets.local.training import plan

    def planned(settings: Settings) -> dict[str, str]:
        with open_instance(settings) as instance:
            decided = plan(
                settings, instance, Tweets(str(sample), None), profile="full", wanted=SELECTED,
                console=Console(quiet=True),
            )  # fmt: skip
        return {key.to_user_string(): reason for key, reason in decided.train.items()}

    assert planned(home) == {}
    reseeded = planned(home.model_copy(update={"seed": 1}))
    assert reseeded[keys.TRAIN_TWEETS] == "the seed has changed"
    assert set(reseeded) == set(SELECTED) - {keys.RAW_TWEETS, keys.CLEANED_TWEETS}
    row = next(r for r in resumed[0]["candidates"] if r["name"] == "count_linear_svm")
    next((home.models / row["version"]).rglob("*.parquet")).unlink()
    assert set(planned(home)) == {"candidates/count_linear_svm", keys.CHOSEN_MODEL}
