"""The calls that bring a command to a cluster, and the driver that receives it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentiment_assets.cli import app
from sentiment_assets.failures import SetupError
from sentiment_assets.settings import Settings
from sentiment_assets.submit.calls import Job, dataproc_calls, job_for, spark_submit_calls
from sentiment_assets.submit.driver import settings_before
from sentiment_assets.submit.package import Package, package_of
from sentiment_assets.submit.run import as_text, execute, find_spark_submit

TRAIN = ["train", "--data", "gs://bucket/tweets.csv", "--rows", "all"]


@pytest.fixture
def package(settings: Settings) -> Package:
    return package_of(settings)


def job(settings: Settings, command: list[str] = TRAIN, **options: dict[str, str]) -> Job:
    complete = {"overrides": {}, "properties": {}} | options
    return job_for(settings, command, storage="gs://bucket/sentiment", **complete)  # type: ignore[arg-type]


def test_dataproc_gets_the_files_first_and_then_a_job_that_names_them_in_the_bucket(
    settings: Settings, package: Package
) -> None:
    upload, submit = dataproc_calls(
        job(settings), package, cluster="c", region="r", bucket="gs://bucket/", project="p"
    )
    target = "gs://bucket/sentiment-assets/0.1.0"
    assert upload[:3] == ["gcloud", "storage", "cp"]
    assert upload[-2:] == [f"{target}/", "--project=p"]
    uploaded = {Path(file).name for file in upload[3:-2]}
    assert submit[:6] == ["gcloud", "dataproc", "jobs", "submit", "pyspark", f"{target}/driver.py"]
    options = dict(word.split("=", 1) for word in submit[6 : submit.index("--")])
    assert (options["--cluster"], options["--region"], options["--project"]) == ("c", "r", "p")
    shipped = [options["--py-files"], *options["--jars"].split(",")]
    assert {Path(uri).name for uri in shipped} < uploaded
    assert all(uri.startswith(f"{target}/") for uri in shipped)
    assert any("delta-spark" in uri for uri in shipped)
    assert submit[submit.index("--") + 1 :] == ["SENTIMENT_STORAGE=gs://bucket/sentiment", *TRAIN]


def test_values_with_commas_survive_gclouds_list_syntax(settings: Settings, package: Package) -> None:
    stated = job(settings, properties={"spark.hadoop.x": "a,b", "spark.driver.memory": "3g"})
    _, submit = dataproc_calls(stated, package, cluster="c", region="r", bucket="gs://bucket")
    (properties,) = [word for word in submit if word.startswith("--properties=")]
    assert properties == "--properties=^#^spark.driver.memory=3g#spark.hadoop.x=a,b"


def test_a_file_of_this_machine_is_refused_before_anything_is_uploaded(
    settings: Settings, package: Package
) -> None:
    local = job(settings, ["train", "--data", "tweets.csv"])
    with pytest.raises(SetupError, match=r"tweets\.csv.*gcloud storage cp"):
        dataproc_calls(local, package, cluster="c", region="r", bucket="gs://bucket")
    with pytest.raises(SetupError, match="no bucket"):
        dataproc_calls(job(settings), package, cluster="c", region="r", bucket="bucket")


def test_spark_submit_gets_local_files_and_the_heap_that_the_command_needs(
    settings: Settings, package: Package
) -> None:
    (call,) = spark_submit_calls(job(settings), package, spark_submit="spark-submit", master="spark://h:7077")
    assert call[:3] == ["spark-submit", "--master", "spark://h:7077"]
    assert call[call.index("--py-files") + 1].endswith(".zip")
    assert f"spark.driver.memory={settings.training_memory}" in call
    driver = call.index(str(package.driver))
    assert call[driver + 1 :] == ["SENTIMENT_STORAGE=gs://bucket/sentiment", *TRAIN]


def test_a_stream_needs_a_kafka_cluster_and_hands_over_its_address_and_topic(settings: Settings) -> None:
    with pytest.raises(SetupError, match="SENTIMENT_KAFKA_BOOTSTRAP"):
        job(settings, ["stream"])
    stated = job(settings.model_copy(update={"kafka_bootstrap": "k:9092"}), ["stream", "--until-drained"])
    assert stated.settings["SENTIMENT_KAFKA_BOOTSTRAP"] == "k:9092"
    assert stated.settings["SENTIMENT_TOPIC"] == settings.topic
    assert stated.properties["spark.driver.memory"] == settings.stream_memory
    other = job(settings, ["stream"], overrides={"SENTIMENT_KAFKA_BOOTSTRAP": "x:1"})
    assert other.settings["SENTIMENT_KAFKA_BOOTSTRAP"] == "x:1"


@pytest.mark.parametrize("command", [[], ["up"], ["kafka", "start"], ["nonsense"]])
def test_commands_of_this_machine_cannot_be_submitted(settings: Settings, command: list[str]) -> None:
    with pytest.raises(SetupError, match="cannot be submitted"):
        job(settings, command)


def test_the_printed_call_is_the_call(settings: Settings, package: Package) -> None:
    odd = job(settings, ["train", "--select", "a b", "--data", "gs://b/it's.csv"])
    calls = dataproc_calls(odd, package, cluster="c", region="r", bucket="gs://bucket")
    printed = as_text(calls).replace(" \\\n", " ").split("\n\n")
    assert [shlex.split(text) for text in printed] == calls


def test_a_dry_run_prints_both_calls_and_builds_nothing(settings: Settings) -> None:
    result = CliRunner().invoke(
        app,
        [
            "submit",
            "dataproc",
            "--cluster",
            "c",
            "--region",
            "r",
            "--bucket",
            "gs://b",
            "--dry-run",
            "--",
            *TRAIN,
        ],
        env={"SENTIMENT_HOME": str(settings.root)},
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("gcloud storage cp ")
    assert "gcloud dataproc jobs submit pyspark" in result.stdout
    assert "SENTIMENT_STORAGE=gs://b/sentiment train --data" in result.stdout
    assert not (settings.root / "dist").exists()


def test_the_documentation_shows_the_real_dry_run() -> None:
    """`docs/dataproc.md` has the output of the command above it; run that again when this fails."""
    data = "gs://my-bucket/training.1600000.processed.noemoticon.csv"
    result = CliRunner().invoke(
        app,
        [
            *("submit", "dataproc", "--cluster", "sentiment", "--region", "europe-west1"),
            *("--bucket", "gs://my-bucket", "--dry-run", "--", "train", "--data", data, "--profile", "full"),
        ],
        env={
            "SENTIMENT_HOME": "/srv/sentiment",
            "SENTIMENT_JAR_CACHE": "/srv/jars",
            "SENTIMENT_TRAINING_MEMORY": "10g",
        },
    )
    page = Path(__file__).parents[2] / "docs" / "dataproc.md"
    assert f"```\n{result.stdout}```" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("bad", ["nonsense", "=x", "a b=c"])
def test_a_property_without_a_name_is_bad_usage(settings: Settings, bad: str) -> None:
    result = CliRunner().invoke(
        app,
        ["submit", "spark", "--master", "yarn", "--property", bad, "--dry-run", "--", "status"],
        env={"SENTIMENT_HOME": str(settings.root)},
    )
    assert result.exit_code == 2


def test_a_missing_program_and_a_failing_one_are_named() -> None:
    with pytest.raises(SetupError, match="gcloud-of-nowhere is not installed"):
        execute([["gcloud-of-nowhere", "x"]])
    with pytest.raises(SetupError, match="ended with status 3"):
        execute([[sys.executable, "-c", "raise SystemExit(3)"]])


def test_spark_submit_is_that_of_spark_home_or_pysparks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARK_HOME", raising=False)
    assert find_spark_submit().endswith("pyspark/bin/spark-submit")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "spark-submit").touch()
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    assert find_spark_submit() == str(tmp_path / "bin" / "spark-submit")


def test_the_driver_takes_settings_up_to_the_command_and_no_further() -> None:
    settings, command = settings_before(
        ["SENTIMENT_STORAGE=gs://b/a=b", "JAVA_HOME=", "train", "--select", "X=1"]
    )
    assert settings == {"SENTIMENT_STORAGE": "gs://b/a=b", "JAVA_HOME": ""}
    assert command == ["train", "--select", "X=1"]
    assert settings_before(["A=1"]) == ({"A": "1"}, [])


def test_the_driver_runs_a_command_with_its_settings_and_says_which_package_it_is(tmp_path: Path) -> None:
    driver = Path(sys.modules[settings_before.__module__].__file__ or "")
    result = subprocess.run(
        [sys.executable, str(driver), f"SENTIMENT_HOME={tmp_path / 'home'}", "models", "list", "--json"],
        env={name: value for name, value in os.environ.items() if name != "SENTIMENT_HOME"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == '{"chosen": null, "models": []}\n'
    assert result.stderr.startswith("sentiment-assets 0.1.0 from ")
