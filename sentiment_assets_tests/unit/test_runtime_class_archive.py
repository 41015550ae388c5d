"""Which archive of classes a JVM is given, and when none. No JVM."""

import os
from pathlib import Path

import pytest

from sentiment_assets.runtime.class_archive import OPTIONS_OF_JAVA, archive_of, sharing_options
from sentiment_assets.runtime.jars import jar_paths
from sentiment_assets.settings import Settings


@pytest.fixture
def own(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A cache of its own with the real jars, and a Spark of one jar."""
    for name in OPTIONS_OF_JAVA:
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path / "cache" / "jars"
    cache.mkdir(parents=True)
    jars = jar_paths("spark", settings)
    (cache / "spark").symlink_to(jars[0].parent)
    spark = tmp_path / "spark" / "jars"
    spark.mkdir(parents=True)
    (spark / "spark-core.jar").write_bytes(b"core")
    monkeypatch.setenv("SPARK_HOME", str(spark.parent))
    return settings.model_copy(update={"jar_cache": cache})


def make(archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.touch()


def test_a_jvm_gets_the_archive_where_there_is_one(own: Settings) -> None:
    assert sharing_options(own) == []
    make(archive_of(own))
    assert sharing_options(own) == [f"-XX:SharedArchiveFile={archive_of(own)}"]


def test_a_space_in_a_path_keeps_no_jvm_from_starting(own: Settings, tmp_path: Path) -> None:
    (tmp_path / "my cache").mkdir()
    (own.jar_cache).rename(tmp_path / "my cache" / "jars")
    own = own.model_copy(update={"jar_cache": tmp_path / "my cache" / "jars"})
    make(archive_of(own))
    assert sharing_options(own) == [f"'-XX:SharedArchiveFile={archive_of(own)}'"]


def test_other_jars_need_another_archive(own: Settings) -> None:
    make(archive_of(own))
    jar = Path(os.environ["SPARK_HOME"]) / "jars" / "spark-core.jar"
    jar.write_bytes(b"a newer core")
    assert sharing_options(own) == []


@pytest.mark.parametrize("option", ["-Xshare:off", "-XX:SharedArchiveFile=/mine.jsa"])
def test_a_persons_choice_stands(own: Settings, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(archive_of(own))
    monkeypatch.setenv("JDK_JAVA_OPTIONS", option)
    assert sharing_options(own) == []
