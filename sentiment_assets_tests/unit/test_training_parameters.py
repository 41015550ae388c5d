"""Parameters, candidates and weights: everything about training that needs no JVM."""

import math

import numpy as np
import pytest
from pyspark import StorageLevel

from sentiment_assets.failures import TrainingError
from sentiment_assets.reports.published import TABLE_1, PublishedRow
from sentiment_assets.spark.features import VARIANTS
from sentiment_assets.spark.training import ALGORITHMS, CANDIDATES, storage_level
from sentiment_assets.spark.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    terms=("good", "bad", "the"),
    documents=np.array([4.0, 4.0, 8.0]),
    positive=np.array([4.0, 0.0, 4.0]),
    rows=8,
)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "much", None])
def test_a_penalty_that_is_no_penalty_is_refused_by_name(value: object) -> None:
    with pytest.raises(TrainingError, match="penalty"):
        ALGORITHMS["logistic_regression"].params({"penalty": value})


def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(TrainingError, match=r"gamma.*max_iterations"):
        ALGORITHMS["linear_svm"].params({"gamma": 1})


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_every_variant_has_defaults_and_describes_each_parameter(variant: object) -> None:
    defaults = variant.params()  # type: ignore[attr-defined]
    assert defaults == variant.defaults  # type: ignore[attr-defined]
    assert all(field.description for field in type(defaults).model_fields.values())


@pytest.mark.parametrize("candidate", CANDIDATES.values(), ids=lambda c: c.name)
def test_every_candidate_names_a_variant_and_usable_parameters(candidate: object) -> None:
    assert candidate.variant in VARIANTS  # type: ignore[attr-defined]
    assert type(candidate.params()) is type(ALGORITHMS[candidate.algorithm].defaults)  # type: ignore[attr-defined]


def test_trees_are_trained_on_few_features_only() -> None:
    trees = [c for c in CANDIDATES.values() if c.algorithm in ("decision_tree", "random_forest")]
    assert {c.variant for c in trees} == {"capped"}


def test_the_quick_profile_is_part_of_the_full_table_and_uses_quick_variants_only() -> None:
    quick = [c for c in CANDIDATES.values() if c.profile == "quick"]
    assert 3 <= len(quick) < len(CANDIDATES)
    assert {VARIANTS[c.variant].profile for c in quick} == {"quick"}


def test_the_published_sizes_are_those_of_the_published_table() -> None:
    sizes = {name: variant.defaults.model_dump() for name, variant in VARIANTS.items()}
    assert sizes["hashing_default"] == {"buckets": 2**18, "min_documents": 0}
    assert sizes["hashing"] == {"buckets": 2**16, "min_documents": 5}
    assert sizes["count_default"] == {"vocabulary_size": 2**18, "min_documents": 0}
    assert sizes["count"] == {"vocabulary_size": 2**16, "min_documents": 5}
    assert sizes["ngrams"] == {"vocabulary_size": 2**14, "min_documents": 5}
    assert sizes["ngrams_chi2"] == {"vocabulary_size": 2**14, "min_documents": 5, "selected": 2**14}


@pytest.mark.parametrize("row", TABLE_1, ids=lambda row: row.title)
def test_every_published_cell_is_a_candidate_with_mllibs_defaults(row: PublishedRow) -> None:
    for algorithm in row.accuracy:
        params = CANDIDATES[f"{row.variant}_{algorithm}"].params().model_dump()
        if algorithm != "naive_bayes":
            assert (params["penalty"], params["max_iterations"], params["standardize"]) == (0.0, 100, True)
        else:
            assert params == {"smoothing": 1.0}


def test_inverse_document_frequency_is_mllibs() -> None:
    assert VOCABULARY.idf() == pytest.approx([math.log(9 / 5), math.log(9 / 5), 0.0])


def test_log_count_ratio_has_the_sign_of_the_class_the_term_speaks_for() -> None:
    good, bad, neutral = VOCABULARY.log_count_ratio()
    assert good > 0 > bad
    assert good == pytest.approx(math.log(5 / 11) - math.log(1 / 11))
    assert neutral == pytest.approx(0.0)


def test_ratio_weights_are_positive_and_never_below_the_floor() -> None:
    assert VOCABULARY.ratio_weights(floor=1.0) == pytest.approx([math.log(5), math.log(5), 1.0])


def test_small_vectors_are_kept_in_memory_and_large_ones_on_disk_alone() -> None:
    gigabyte = 2**30
    assert storage_level(100_000, 30, 4 * gigabyte) == StorageLevel.MEMORY_AND_DISK
    assert storage_level(1_600_000, 200, 8 * gigabyte) == StorageLevel.DISK_ONLY
