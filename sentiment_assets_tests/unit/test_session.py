"""Spark settings: what holds everywhere, what one machine gets, what is left to a cluster."""

import os
import sys

import pytest

from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.jars import jar_names
from sentiment_assets.settings import Settings
from sentiment_assets.spark import session
from sentiment_assets.spark.session import RELEASE_LINE, Role, spark_conf

MANAGER = "spark.sql.streaming.checkpointFileManagerClass"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of the environment end with the test."""
    for name in (
        "PYSPARK_GATEWAY_PORT",
        "PYSPARK_PYTHON",
        "SPARK_LOCAL_IP",
        "JAVA_HOME",
        "PYSPARK_DRIVER_PYTHON",
    ):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        if not os.environ[name]:
            monkeypatch.delenv(name)


def conf(settings: Settings, role: Role = "stream", **changes: object) -> dict[str, str]:
    return spark_conf(settings.model_copy(update=changes), role=role, app_name="test")


def test_a_local_session_has_few_partitions_and_stays_on_the_loopback_address(settings: Settings) -> None:
    local = conf(settings)
    assert local["spark.master"] == "local[*]"
    assert local["spark.sql.shuffle.partitions"] == "2"
    assert local["spark.driver.host"] == "127.0.0.1"
    assert os.environ["PYSPARK_PYTHON"] == sys.executable


def test_a_cluster_decides_on_partitions_itself(settings: Settings) -> None:
    standalone = conf(settings, spark_master="spark://127.0.0.1:7077")
    assert standalone["spark.master"] == "spark://127.0.0.1:7077"
    assert "spark.sql.shuffle.partitions" not in standalone
    assert standalone["spark.driver.host"] == "127.0.0.1"


@pytest.mark.parametrize("master", ["spark://head:7077", "yarn", "k8s://https://head:6443"])
def test_executors_on_other_machines_can_reach_the_driver_and_keep_their_python(
    settings: Settings, master: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", "/opt/python")
    remote = conf(settings, spark_master=master)
    assert "spark.driver.host" not in remote
    assert os.environ["PYSPARK_PYTHON"] == "/opt/python"


def test_the_fast_checkpoint_manager_is_for_local_disks_and_for_the_stream(settings: Settings) -> None:
    assert MANAGER in conf(settings)
    assert MANAGER not in conf(settings, role="training")
    assert MANAGER not in conf(settings, storage="file:///shared")


@pytest.mark.parametrize(("memory", "young"), [("10g", "800m"), ("2g", "682m"), ("600m", "200m")])
@pytest.mark.parametrize("role", ["training", "stream"])
def test_the_jvm_collects_for_throughput_and_new_objects_do_not_take_the_heap(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, memory: str, young: str, role: Role
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    options = conf(settings, role, training_memory=memory, stream_memory=memory)[
        "spark.driver.extraJavaOptions"
    ].split()
    assert {"-XX:+UseParallelGC", f"-XX:MaxNewSize={young}"} <= set(options)
    assert {"-Duser.language=en", "-Duser.country=US"} <= set(options)
    assert any("Tier4" in option for option in options) == (role == "stream")


@pytest.mark.parametrize("name", ["JAVA_TOOL_OPTIONS", "SPARK_SUBMIT_OPTS"])
def test_a_collector_that_a_person_chose_is_not_joined_by_ours(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "-Dproxy=x -XX:+UseG1GC")
    assert "-XX:+UseParallelGC" not in conf(settings)["spark.driver.extraJavaOptions"]
    monkeypatch.setenv(name, "-Dproxy=x -XX:+UseStringDeduplication")
    assert "-XX:+UseParallelGC" in conf(settings)["spark.driver.extraJavaOptions"]


def test_under_spark_submit_nothing_overrides_what_was_submitted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    # An earlier session of this process may have set it.
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    submitted = conf(settings)
    given = {"spark.master", "spark.jars", "spark.driver.memory", "spark.driver.host", "spark.local.dir"}
    assert not given & submitted.keys()
    assert submitted["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    assert "PYSPARK_PYTHON" not in os.environ


def test_a_cluster_with_another_spark_is_refused_with_both_versions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setattr(session.pyspark, "__version__", "4.0.0")
    with pytest.raises(SetupError, match=rf"runs Spark 4\.0\.0; .* made for Spark {RELEASE_LINE}"):
        conf(settings)


def test_the_release_line_is_that_of_the_pinned_spark_and_of_deltas_jar() -> None:
    assert session.pyspark.__version__.startswith(f"{RELEASE_LINE}.")
    assert any(name.startswith(f"delta-spark_{RELEASE_LINE}_") for name in jar_names("spark"))
