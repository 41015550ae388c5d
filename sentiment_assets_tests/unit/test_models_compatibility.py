"""Which stored models may be served here, told from their manifests."""

from datetime import UTC, datetime

import pytest

from sentiment_assets.failures import ModelError
from sentiment_assets.models.compatibility import require_fit, require_same_spark
from sentiment_assets.models.manifest import Manifest, Source

FEATURES = {"ngrams": "2", "count": "1.3"}


def manifest(**changes: object) -> Manifest:
    values = {
        "kind": "candidate",
        "name": "ngrams_naive_bayes",
        "variant": "ngrams",
        "source": Source(kind="file", file="tweets.csv", note="made up"),
        "rows_train": 1,
        "data_version": "d1",
        "code_version": "2.1",
        "seed": 1,
        "version": "20260101-000000-ngrams_naive_bayes-1a2b",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "pins": {"pyspark": "4.2.0"},
        "files": {},
    }
    return Manifest.model_validate(values | changes)


def test_a_model_of_this_code_and_this_spark_fits() -> None:
    require_fit(manifest(), spark="4.2.0", features=FEATURES)
    require_fit(manifest(variant="count", code_version="1.3.7"), spark="4.2.0", features=FEATURES)


def test_another_patch_of_the_same_spark_line_fits() -> None:
    require_fit(manifest(), spark="4.2.9", features=FEATURES)


@pytest.mark.parametrize("wrote", ["4.1.2", "3.5.1", "40.2.0"])
def test_a_model_of_another_spark_line_is_refused_with_both_versions(wrote: str) -> None:
    with pytest.raises(ModelError, match=rf"written by Spark {wrote}, this is Spark 4\.2\.0.*Train it anew"):
        require_fit(manifest(pins={"pyspark": wrote}), spark="4.2.0", features=FEATURES)


def test_a_model_that_does_not_say_which_spark_wrote_it_is_refused() -> None:
    with pytest.raises(ModelError, match="written by Spark unknown"):
        require_fit(manifest(pins={}), spark="4.2.0", features=FEATURES)


@pytest.mark.parametrize("learned", ["1.1", "2.1.1", "21.1", "2"])
def test_a_model_of_other_features_is_refused_with_both_versions(learned: str) -> None:
    with pytest.raises(
        ModelError, match=r"version \S* ?of the features ngrams, this installation has version 2"
    ):
        require_fit(manifest(code_version=learned), spark="4.2.0", features=FEATURES)


def test_features_that_this_installation_does_not_define_say_nothing_against_a_model() -> None:
    require_fit(manifest(variant="own", code_version="x.1"), spark="4.2.0", features=FEATURES)


def test_a_feature_pipeline_is_no_model_but_may_be_read_by_its_own_spark() -> None:
    with pytest.raises(ModelError, match="cannot score"):
        require_fit(manifest(kind="features"), spark="4.2.0", features=FEATURES)
    require_same_spark(manifest(kind="features"), "4.2.1")
    with pytest.raises(ModelError, match="Spark"):
        require_same_spark(manifest(kind="features"), "5.0.0")
