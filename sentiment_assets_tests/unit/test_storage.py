"""Tables, models and checkpoints under a URI: the same code as for a folder, without locks and renames."""

import logging
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from upath import UPath

from sentiment_assets.failures import ModelError, SetupError, SourceError, TableError
from sentiment_assets.models.store import ModelStore
from sentiment_assets.runtime.files import remove_folder, replace_file
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings, is_local, location
from sentiment_assets.sources import generated, resolve
from sentiment_assets.spark import delta
from sentiment_assets.streaming.status import read_status
from sentiment_assets_tests.unit.test_models_store import draft


@pytest.fixture
def stored(tmp_path: Path) -> Settings:
    """Settings whose storage is a URI; what it names is a folder of this machine."""
    return Settings(home=tmp_path / "driver", storage=(tmp_path / "objects").as_uri()).prepare()


def test_a_home_has_everything_and_a_storage_takes_what_has_to_outlive_the_machine(
    settings: Settings, stored: Settings, tmp_path: Path
) -> None:
    assert settings.lake == settings.root / "lake"
    assert str(stored.lake) == f"file://{tmp_path}/objects/lake"
    assert str(stored.table("x")) == f"file://{tmp_path}/objects/lake/x"
    assert [is_local(path) for path in (stored.lake, stored.models, stored.checkpoints)] == [False] * 3
    assert is_local(stored.run)
    assert is_local(stored.dagster_home)
    assert not (stored.root / "lake").exists()


def test_a_storage_may_be_a_plain_folder_too(tmp_path: Path) -> None:
    stored = Settings(home=tmp_path / "home", storage=str(tmp_path / "disk")).prepare()
    assert stored.models == tmp_path / "disk" / "models"
    assert stored.models.is_dir()


def test_a_uri_that_cannot_be_opened_says_what_to_install_or_to_use() -> None:
    with pytest.raises(SetupError, match=r"kind that is not supported.*gs, s3a, file"):
        location("abfss://container@account/path")
    with pytest.raises(SetupError, match="pip install gcsfs"):
        location("gs://bucket/path")


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    root = tmp_path.as_uri() if request.param == "file" else f"memory://{tmp_path.name}"
    return ModelStore(UPath(root) / "models")  # type: ignore[arg-type]


def write_objects(folder: Path) -> None:
    (folder / "pipeline").mkdir(parents=True, exist_ok=True)
    (folder / "pipeline" / "weights").write_bytes(b"\x00\x01" * 500)


def test_a_model_store_of_objects_saves_promotes_rolls_back_and_prunes(store: ModelStore) -> None:
    versions = [store.save(draft(), write_objects).version for _ in range(6)]
    assert {m.version for m in store.versions("candidate")} == set(versions)
    assert store.manifest(versions[0]).files.keys() == {"pipeline/weights"}
    for version in versions[:2]:
        store.promote(version, "a test")
    assert store.rollback() == versions[0] == store.chosen()
    removed = store.prune(keep=1)
    assert len(removed) == 3
    assert versions[0] not in removed
    assert {m.version for m in store.versions()} == set(versions) - set(removed)


def test_a_model_whose_saving_broke_off_does_not_exist(
    store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(folder: Path) -> None:
        write_objects(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match="No space left"):
        store.save(draft(), breaks)
    with caplog.at_level(logging.WARNING):
        assert store.versions() == []


def test_an_object_that_was_changed_is_noticed(store: ModelStore) -> None:
    version = store.save(draft(), write_objects).version
    (store.root / version / "pipeline" / "weights").write_bytes(b"\x01\x00" * 500)
    store.folder(version)
    with pytest.raises(ModelError, match="has changed"):
        store.folder(version, deep=True)
    (store.root / version / "pipeline" / "weights").unlink()
    with pytest.raises(ModelError, match="lacks its file"):
        store.folder(version)


def test_a_table_under_a_uri_is_created_counted_and_versioned(stored: Settings) -> None:
    path = stored.table(PREDICTIONS.name)
    assert not delta.table_exists(path)
    with pytest.raises(TableError, match="does not exist"):
        delta.row_count(path)
    delta.ensure_table(path, PREDICTIONS)
    delta.ensure_table(path, PREDICTIONS)
    assert delta.table_exists(path)
    before = delta.table_version(path)
    plain = stored.table("plain")
    write_deltalake(str(plain), pa.table({"n": [1, 2]}))
    assert (delta.row_count(plain), delta.table_version(plain), before >= 0) == (2, 0, True)
    assert read_status(stored)["predictions"] == 0


def test_state_files_under_a_uri_are_replaced_and_removed(stored: Settings) -> None:
    file = stored.checkpoints / "dead_letters" / "position.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    for content in ("{}", '{"a": 1}'):
        replace_file(file, content)
        assert file.read_text() == content
    remove_folder(stored.checkpoints)
    remove_folder(stored.checkpoints)
    assert not stored.checkpoints.exists()


def test_tweets_under_a_uri_are_copied_once_and_the_cluster_reads_the_original(stored: Settings) -> None:
    sample = generated.write(stored, rows=50)
    found = resolve(stored, sample.as_uri())
    assert (found.kind, found.note, found.uri) == ("file", f"your file {sample.name}", sample.as_uri())
    assert found.path != sample
    assert found.path.read_bytes() == sample.read_bytes()
    before = found.path.stat().st_mtime_ns
    assert resolve(stored, sample.as_uri()).path.stat().st_mtime_ns == before


def test_tweets_under_a_uri_that_is_not_there_are_an_error_of_the_source(stored: Settings) -> None:
    with pytest.raises(SourceError, match=r"none\.csv cannot be read"):
        resolve(stored, "file:///nowhere/none.csv")
