"""The jar cache: a marker that spares work, damage that is found, a failure that says what to do.

A made-up lock of two jars, and a program in the place of Java that fetches them from a folder. What Ivy does
with the real ones is seen by every test that starts a broker or Spark.
"""

import hashlib
import sys
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest

from sentiment_assets.failures import SetupError
from sentiment_assets.runtime import jars
from sentiment_assets.runtime.jars import damaged_jars, jar_paths
from sentiment_assets.settings import Settings

CONTENT = {"a-1.jar": b"first", "b-2.jar": b"second"}

JAVA = """#!{python}
import pathlib, shutil, sys
if "-XshowSettings:properties" in sys.argv:
    print("    java.home = {home}", "    java.specification.version = 17", sep="\\n", file=sys.stderr)
    sys.exit()
mirror = pathlib.Path("{home}", "mirror")
if not mirror.is_dir():
    print("Host mirror.invalid not found. url=http://mirror.invalid")
    sys.exit(1)
target = pathlib.Path(sys.argv[sys.argv.index("-retrieve") + 1]).parent.parent / "spark"
shutil.copytree(mirror, target)
print("[SUCCESSFUL ] org#a;1!a.jar (5ms)")
"""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder from which the program in the place of Java fetches; missing, as when offline."""
    home = tmp_path / "java"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text(JAVA.format(python=sys.executable, home=home))
    (home / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))
    return home / "mirror"


@pytest.fixture
def cache(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Path) -> Settings:
    """Settings whose jar cache is complete for a lock of two jars."""
    lock = tmp_path / "jars.sha256"
    lock.write_text("".join(f"{_sha256(data)}  spark/{name}\n" for name, data in CONTENT.items()))
    monkeypatch.setattr(jars, "_HASHES", lock)
    filled = settings.model_copy(update={"jar_cache": tmp_path / "cache"})
    _fill(filled.jar_cache / "spark")
    return filled


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fill(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)


def test_jars_with_the_right_hashes_are_taken_without_fetching(cache: Settings) -> None:
    assert jar_paths("spark", cache) == [cache.jar_cache / "spark" / name for name in CONTENT]


def test_a_jar_with_another_hash_is_damaged_at_first_use(cache: Settings) -> None:
    (cache.jar_cache / "spark" / "a-1.jar").write_bytes(b"wrong")
    assert damaged_jars("spark", cache) == {"a-1.jar": "does not have the expected SHA-256"}


def test_after_the_marker_another_size_is_noticed_by_stat_and_another_content_by_verify(
    cache: Settings,
) -> None:
    jar_paths("spark", cache)
    jar = cache.jar_cache / "spark" / "a-1.jar"
    jar.write_bytes(b"FIRST")
    assert damaged_jars("spark", cache) == {}
    assert damaged_jars("spark", cache, verify=True) == {"a-1.jar": "does not have the expected SHA-256"}
    jar.write_bytes(b"x")
    assert damaged_jars("spark", cache) == {"a-1.jar": "has 1 bytes instead of 5"}


def test_a_new_lock_makes_the_marker_of_the_old_one_void(
    cache: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jar_paths("spark", cache)
    newer = tmp_path / "newer.sha256"
    newer.write_text(f"{'0' * 64}  spark/a-1.jar\n{_sha256(b'second')}  spark/b-2.jar\n")
    monkeypatch.setattr(jars, "_HASHES", newer)
    assert list(damaged_jars("spark", cache)) == ["a-1.jar"]


def test_a_damaged_jar_is_named_and_fetched_again(
    cache: Settings, mirror: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _fill(mirror)
    damaged = cache.jar_cache / "spark" / "a-1.jar"
    damaged.write_bytes(b"wrong")
    progress: list[str] = []
    jar_paths("spark", cache, progress.append)
    assert damaged.read_bytes() == b"first"
    assert "a-1.jar" in caplog.text
    assert "Fetched a-1.jar (1 of 1)" in progress
    assert sorted(path.name for path in cache.jar_cache.iterdir() if path.is_dir()) == ["spark"]


def test_a_jar_that_is_wrong_when_fetched_again_is_an_error_and_not_put_in_place(
    cache: Settings, mirror: Path
) -> None:
    _fill(mirror)
    (mirror / "a-1.jar").write_bytes(b"also wrong")
    (cache.jar_cache / "spark" / "a-1.jar").unlink()
    with pytest.raises(SetupError, match=r"a-1\.jar has SHA-256"):
        jar_paths("spark", cache)
    assert not (cache.jar_cache / "spark" / "a-1.jar").exists()


def test_a_jar_that_cannot_be_fetched_is_an_error_with_the_reason_and_the_mirror_setting(
    cache: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (cache.jar_cache / "spark" / "a-1.jar").write_bytes(b"wrong")
    with pytest.raises(SetupError) as failure:
        jar_paths("spark", cache)
    assert "a-1.jar" in caplog.text
    assert "Host mirror.invalid not found" in failure.value.what
    assert "SENTIMENT_IVY_SETTINGS" in failure.value.next_step


def test_a_cache_that_cannot_be_made_is_an_error_that_names_the_setting(
    cache: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="SENTIMENT_JAR_CACHE"):
        jar_paths("spark", cache.model_copy(update={"jar_cache": tmp_path / "file" / "cache"}))


def test_every_module_of_ivy_xml_has_a_hash_and_nothing_is_transitive() -> None:
    dependencies = ElementTree.parse(jars._IVY_XML).getroot().iter("dependency")  # noqa: S314  (our own file)
    wanted: dict[str, set[str]] = {name: set() for name in get_args(jars.Configuration)}
    for dependency in dependencies:
        assert dependency.get("transitive") == "false"
        configuration = (dependency.get("conf") or "").split("->")[0]
        wanted[configuration].add(f"{dependency.get('name')}-{dependency.get('rev')}.jar")
    assert wanted == {name: set(jars._expected(name)) for name in get_args(jars.Configuration)}


def test_an_installation_does_not_fetch_what_only_tests_use() -> None:
    assert set(get_args(jars.Configuration)) - set(jars.PRODUCT) == {"mongodb_test"}


def test_no_repository_address_is_in_our_files() -> None:
    assert "http" not in jars._IVY_XML.read_text().replace("http://www.w3.org", "")
    assert "http" not in jars._HASHES.read_text()
