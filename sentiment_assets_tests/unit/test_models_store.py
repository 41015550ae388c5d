"""The model store: versions never change, the pointer moves as a whole, damage is named."""

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from sentiment_assets.failures import ModelError
from sentiment_assets.models.manifest import Draft, Manifest, Scorer, Source
from sentiment_assets.models.store import ModelStore


def draft(name: str = "ngrams_logistic_regression", **changes: object) -> Draft:
    values = {
        "kind": "candidate",
        "name": name,
        "variant": "ngrams",
        "algorithm": "logistic_regression",
        "source": Source(kind="file", file="tweets.csv", note="the file you named"),
        "rows_train": 800,
        "data_version": "d1",
        "code_version": "1",
        "seed": 2000,
        "params": {"reg_param": 0.1},
        "metrics": {"selection_accuracy": 0.8, "n": 200},
        "run_id": "run-1",
    }
    return Draft.model_validate(values | changes)


def write_model(folder: Path) -> None:
    (folder / "pipeline" / "stages").mkdir(parents=True)
    (folder / "pipeline" / "stages" / "weights").write_bytes(b"\x00\x01" * 500)
    (folder / "pipeline" / "metadata.json").write_text("{}")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def saved(store: ModelStore, **changes: object) -> str:
    return store.save(draft(**changes), write_model).version  # type: ignore[arg-type]


def promoted(store: ModelStore, count: int) -> list[str]:
    versions = [saved(store) for _ in range(count)]
    for version in versions:
        store.promote(version, "a test")
    return versions


def test_a_saved_model_is_found_again_with_everything_known_about_it(store):
    manifest = store.save(draft(), write_model)
    assert store.manifest(manifest.version) == manifest
    assert manifest.rows_train == 800
    assert manifest.metrics == {"selection_accuracy": 0.8, "n": 200}
    assert set(manifest.files) == {"pipeline/stages/weights", "pipeline/metadata.json"}
    assert manifest.files["pipeline/stages/weights"][0] == 1000
    assert manifest.pins.keys() >= {"pyspark", "delta-spark", "sentiment-assets"}
    folder = store.folder(manifest.version, deep=True)
    assert (folder / "pipeline" / "metadata.json").read_text() == "{}"


def test_a_version_can_be_read_and_sorts_by_time(store):
    versions = [saved(store), saved(store)]
    assert all("-ngrams_logistic_regression-" in version for version in versions)
    assert [m.version for m in store.versions()] == versions[::-1]


def test_a_model_whose_writing_fails_leaves_nothing_behind(store):
    def fail(folder: Path) -> None:
        write_model(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match=r"cannot be written \(No space left on device\)"):
        store.save(draft(), fail)
    assert list(store.root.iterdir()) == []
    assert store.versions() == []


def test_versions_and_latest_filter_by_kind_name_and_data(store):
    features = saved(store, kind="features", name="ngrams", algorithm="")
    older = saved(store)
    newer = saved(store, data_version="d2")
    assert [m.version for m in store.versions("features")] == [features]
    assert store.latest("candidate", "ngrams_logistic_regression").version == newer
    assert store.latest("candidate", "ngrams_logistic_regression", "d1").version == older
    assert store.latest("candidate", "ngrams_logistic_regression", "d3") is None


def test_a_missing_file_of_a_model_is_named_with_the_next_step(store):
    version = saved(store)
    (store.root / version / "pipeline" / "stages" / "weights").unlink()
    with pytest.raises(ModelError, match=r"lacks its file pipeline/stages/weights .*sentiment-assets train"):
        store.folder(version)
    with pytest.raises(ModelError, match="lacks its file"):
        store.promote(version, "it looks fine")
    assert store.chosen() is None


def test_a_changed_file_is_told_by_its_size_or_by_its_hash(store):
    version = saved(store)
    weights = store.root / version / "pipeline" / "stages" / "weights"
    weights.write_bytes(b"\x01\x00" * 500)
    store.folder(version)
    with pytest.raises(ModelError, match=r"pipeline/stages/weights .*has changed"):
        store.folder(version, deep=True)
    weights.write_bytes(b"short")
    with pytest.raises(ModelError, match="has changed"):
        store.folder(version)


@pytest.mark.parametrize("content", ["", "{", '{"version": 1}'])
def test_a_damaged_manifest_is_an_error_by_name_and_left_out_of_lists(store, content):
    good, bad = saved(store), saved(store)
    (store.root / bad / "manifest.json").write_text(content)
    assert [m.version for m in store.versions()] == [good]
    with pytest.raises(ModelError, match="is damaged"):
        store.manifest(bad)


@pytest.mark.parametrize("version", ["", ".", "..", "nothing", "../elsewhere"])
def test_an_unknown_version_is_an_error(store, version):
    saved(store)
    with pytest.raises(ModelError, match="There is no model"):
        store.folder(version)


def test_nothing_is_chosen_at_first(store):
    assert store.chosen() is None
    assert store.history() == []


def test_a_promotion_moves_the_pointer_and_is_remembered(store):
    first, second = promoted(store, 2)
    assert store.chosen() == second
    assert [entry.version for entry in store.history()] == [first, second]
    assert store.history()[0].reason == "a test"
    assert not list(store.root.glob(".chosen*"))


def test_a_feature_pipeline_cannot_be_chosen(store):
    with pytest.raises(ModelError, match="is a feature pipeline"):
        store.promote(saved(store, kind="features", name="ngrams"), "by mistake")


def test_each_rollback_goes_one_promotion_further_back(store):
    first, second, third = promoted(store, 3)
    assert store.rollback() == second
    assert store.rollback() == first
    with pytest.raises(ModelError, match="no earlier chosen model"):
        store.rollback()
    assert store.chosen() == first
    store.promote(third, "after all")
    assert store.rollback() == first


def test_a_rollback_passes_over_damaged_models(store):
    first, second, third = promoted(store, 3)
    (store.root / second / "pipeline" / "metadata.json").unlink()
    assert store.rollback() == first
    assert third in [m.version for m in store.versions()]


def test_a_rollback_passes_over_models_that_cannot_be_served_here(store):
    first, second, _third = promoted(store, 3)

    def fits(version: str) -> None:
        if version == second:
            raise ModelError(f"{version} was written by another Spark.", "Train it anew.")

    assert store.rollback(fits) == first


def test_a_rollback_away_from_a_damaged_chosen_model_works(store):
    first, second = promoted(store, 2)
    (store.root / second / "manifest.json").unlink()
    assert store.rollback() == first


def test_a_damaged_pointer_is_an_error_that_names_the_file(store):
    promoted(store, 1)
    (store.root / "chosen.json").write_text("half a po")
    with pytest.raises(ModelError, match=r"chosen\.json.*is damaged.*Delete it"):
        store.chosen()


def test_pruning_keeps_the_newest_of_each_name_the_chosen_and_the_lately_chosen(store):
    old, *others = [saved(store) for _ in range(6)]
    svm = saved(store, name="ngrams_linear_svm")
    store.promote(old, "it was the first")
    store.promote(others[-1], "it is better")
    removed = store.prune(keep=2)
    assert sorted(removed) == sorted(others[:3])
    assert {m.version for m in store.versions()} == {old, *others[3:], svm}
    assert store.rollback() == old


def test_pruning_keeps_what_scores_just_now_and_five_models_to_go_back_to(store):
    used, *versions = [saved(store) for _ in range(9)]
    for version in versions:
        store.promote(version, "a test")
    store.rollback()
    store.rollback()
    store.promote(versions[5], "promoted again")
    others = [saved(store) for _ in range(3)]
    assert store.prune(keep=3, in_use={used}) == []
    assert store.prune(keep=3) == [used]
    assert {m.version for m in store.versions()} == {*versions, *others}


def test_what_was_rolled_back_is_known_until_it_is_promoted_again(store):
    first, second = promoted(store, 2)
    store.rollback()
    assert [m.version for m in store.withdrawn()] == [second]
    store.promote(second, "it was good after all")
    assert store.withdrawn() == []
    store.promote(first, "promoted by a person")
    store.promote(second, "once more")
    assert store.rollback() == first
    assert [m.version for m in store.withdrawn()] == [second]


def test_tables_whose_bytes_have_changed_do_not_serve(store):
    version = saved(store)

    def write(folder):
        (folder / "numbers.json").write_text("[1]")
        return Scorer(compiled=True, reason="it was shown")

    store.attach_scorer(version, write)
    assert store.scorer(version, deep=True)[0].compiled
    (store.root / version / "compiled" / "numbers.json").write_text("[2]")
    assert not store.scorer(version, deep=True)[0].compiled


def test_pruning_keeps_the_features_of_the_models_that_stay(store):
    used = saved(store, kind="features", name="nb_ngrams")
    chosen = saved(store, params={"features": used})
    store.promote(chosen, "the best")
    later = [saved(store, kind="features", name="nb_ngrams") for _ in range(4)]
    assert store.prune(keep=3) == [later[0]]
    assert store.manifest(used).version == used


def test_a_store_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="cannot be written"):
        ModelStore(tmp_path / "models").save(draft(), write_model)


def test_manifests_of_later_releases_with_more_in_them_can_be_read(store):
    version = saved(store)
    path = store.root / version / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new_in_later_release": 1}))
    assert isinstance(store.manifest(version), Manifest)


def _promote_often(root: Path, version: str) -> None:
    for _ in range(10):
        ModelStore(root).promote(version, f"by {os.getpid()}")


def test_processes_that_promote_at_once_lose_no_entry_of_the_history(store):
    versions = [saved(store) for _ in range(3)]
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_promote_often, [store.root] * 3, versions))
    assert len(store.history()) == 30
    assert store.chosen() == store.history()[-1].version


def tables(*, agree: bool, content: str = "1"):
    def write(folder: Path) -> Scorer:
        (folder / "slots").write_text(content)
        return Scorer(compiled=agree, reason="shown", made_with={"java": "17"}, rows=3)

    return write


def test_compiled_tables_are_kept_beside_an_unchanged_version(store):
    version = saved(store)
    attached = store.attach_scorer(version, tables(agree=True))
    scorer, folder = store.scorer(version)
    assert scorer == attached
    assert (scorer.compiled, scorer.rows, scorer.title) == (True, 3, "compiled (shown)")
    assert (folder / "slots").read_text() == "1"
    store.folder(version, deep=True)
    assert [m.version for m in store.versions()] == [version]


def test_compiling_anew_replaces_the_tables_as_a_whole(store):
    version = saved(store)
    store.attach_scorer(version, tables(agree=True))
    store.attach_scorer(version, tables(agree=True, content="22"))
    scorer, folder = store.scorer(version)
    assert (folder / "slots").read_text() == "22"
    assert scorer.files["slots"][0] == 2
    assert [path.name for path in store.root.iterdir() if path.name.startswith(".staging")] == []


def test_tables_that_do_not_agree_are_not_kept_but_the_reason_is(store):
    version = saved(store)
    store.attach_scorer(version, tables(agree=False))
    scorer, folder = store.scorer(version)
    assert scorer.title == "MLlib pipeline (shown)"
    assert not (folder / "slots").exists()


def test_a_version_without_or_with_damaged_tables_is_served_by_its_pipeline_and_says_so(store):
    version = saved(store)
    assert store.scorer(version)[0].title == "MLlib pipeline (it was not compiled)"
    store.attach_scorer(version, tables(agree=True))
    (store.scorer(version)[1] / "slots").write_text("longer")
    assert store.scorer(version)[0].title == "MLlib pipeline (its compiled tables are damaged)"
    (store.scorer(version)[1] / "scorer.json").write_text("{")
    assert store.scorer(version)[0].title == "MLlib pipeline (its compiled tables are damaged)"


def test_a_version_that_is_not_there_has_no_scorer(store):
    with pytest.raises(ModelError, match="There is no model"):
        store.scorer("nothing")
