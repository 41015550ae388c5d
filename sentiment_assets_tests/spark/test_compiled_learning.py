"""The compiled loops of training: the terms, counts and vectors that Spark SQL and MLlib find, to the last bit."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pyspark.ml import PipelineModel

from sentiment_assets.spark import text
from sentiment_assets.spark.compiled import counting, learner
from sentiment_assets.spark.compiled import vectors as compiled_vectors
from sentiment_assets.spark.compiled.agreement import hostile_texts
from sentiment_assets.spark.compiled.counting import learn_vocabularies
from sentiment_assets.spark.compiled.vectors import vectors
from sentiment_assets.spark.features import FEATURES, VARIANTS, fit_features
from sentiment_assets.spark.vocabulary import Vocabulary, learn_vocabulary
from sentiment_assets_tests.spark.conftest import made_up_tweets

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ORDER, LIMIT = 5, 2**20


@pytest.fixture(scope="module")
def hostile(spark: "SparkSession") -> "DataFrame":
    """Columns ``text, label``: every odd text twice with other words, so that its terms stay in a vocabulary."""
    odd = [
        text
        for text in hostile_texts(["love", "not", "don't", "\U0001f600x"], seed=3, count=300)
        if text is None or len(text) < 50_000
    ]
    rows = [(text, float(n % 2)) for n, text in enumerate(odd)]
    rows += [(None if text is None else f"{text} {text}", float(n % 3 == 0)) for n, text in enumerate(odd)]
    frame = spark.createDataFrame([*rows, *made_up_tweets(200)], "text STRING, label DOUBLE")
    return frame.repartition(2).cache()


def by_sql(frame: "DataFrame", limit: int = LIMIT) -> list[Vocabulary]:
    front = PipelineModel(stages=[text.clean_tokens(), text.scoped_terms(), text.character_ngrams(ORDER)])
    terms = front.transform(frame)
    return [
        learn_vocabulary(terms, terms=column, label="label", min_documents=2, limit=limit)
        for column in (text.TERMS, text.PIECES)
    ]


def same(ours: Vocabulary, theirs: Vocabulary) -> bool:
    return (
        ours.terms == theirs.terms
        and np.array_equal(ours.documents, theirs.documents)
        and np.array_equal(ours.positive, theirs.positive)
        and ours.rows == theirs.rows
    )


def test_the_loops_count_the_terms_that_sql_counts(hostile: "DataFrame") -> None:
    ours = learn_vocabularies(hostile, label="label", order=ORDER, min_documents=2, limits=(LIMIT, LIMIT))
    theirs = by_sql(hostile)
    assert [len(one) > 1000 for one in theirs] == [True, True]
    assert [same(*pair) for pair in zip(ours, theirs, strict=True)] == [True, True]


def test_tables_that_are_full_are_handed_over_and_nothing_is_lost(
    hostile: "DataFrame", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "_FIRST_SLOTS", 1 << 9)
    monkeypatch.setattr(learner, "_MOST_SLOTS", 1 << 12)
    short = hostile.where("length(text) < 300")  # a long one needs a larger table than a full one
    rows = short.select("label", "text").coalesce(1).toArrow().combine_chunks()
    lowered = hostile.sparkSession.createDataFrame(rows).selectExpr("label", *text.lowered())
    batches = lowered.select("label", text.LOWER).toArrow().to_batches(max_chunksize=100)
    classes = counting.character_classes(hostile.sparkSession)
    found: dict[tuple[int, int], np.ndarray] = {}
    handed_over = 0
    for batch in learner.counted(iter(batches), classes, ORDER, ""):
        handed_over += 1
        for key, documents, positive in learner.unpacked(batch).tolist():
            counts = found.setdefault((batch["view"][0].as_py(), key), np.zeros(2, np.int64))
            counts += (documents, positive)
    assert handed_over > 4
    totals = [
        sorted((int(d), int(p)) for (v, _), (d, p) in found.items() if v == view and d >= 2)
        for view in (0, 1)
    ]
    expected = [
        sorted(zip(one.documents.astype(int).tolist(), one.positive.astype(int).tolist(), strict=True))
        for one in by_sql(short)
    ]
    assert totals == expected


def test_only_the_most_frequent_terms_are_kept(hostile: "DataFrame") -> None:
    words, pieces = learn_vocabularies(hostile, label="label", order=ORDER, min_documents=2, limits=(50, 7))
    assert (len(words), len(pieces)) == (50, 7)
    for ours, theirs in zip((words, pieces), by_sql(hostile), strict=True):
        assert np.array_equal(ours.documents, theirs.documents[: len(ours)])


def test_without_character_ngrams_there_is_one_vocabulary(hostile: "DataFrame") -> None:
    found = learn_vocabularies(hostile, label="label", order=0, min_documents=2, limits=(LIMIT, LIMIT))
    assert [same(ours, theirs) for ours, theirs in zip(found, by_sql(hostile)[:1], strict=True)] == [True]


@pytest.mark.parametrize("order", [5, 0])
def test_the_loops_make_the_vectors_that_mllib_makes(hostile: "DataFrame", order: int) -> None:
    variant = VARIANTS["nb_ngrams"]
    model = fit_features(variant, hostile, variant.params({"character_order": order})).model
    ours = vectors(model, hostile)
    assert compiled_vectors.made_by(model) == "compiled loops"
    found = [tuple(row) for row in ours.collect()]
    expected = [tuple(row) for row in model.transform(hostile).select("label", FEATURES).collect()]
    assert found == expected


@pytest.mark.parametrize("fault", ["a weight", "a term"])
def test_loops_that_make_other_vectors_are_not_used(
    hostile: "DataFrame", monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    variant = VARIANTS["nb_ngrams"]
    model = variant.learn(hostile, variant.defaults)
    tables = compiled_vectors.feature_tables(model)
    hashes = tables.word_hashes.copy()
    hashes[0] += 1
    faults = {"a weight": {"ratio": tables.ratio * 1.001}, "a term": {"word_hashes": hashes}}
    monkeypatch.setattr(compiled_vectors, "feature_tables", lambda _: replace(tables, **faults[fault]))
    assert "MapInArrow" not in vectors(model, hostile)._jdf.queryExecution().toString()
    assert compiled_vectors.made_by(model) == "MLlib's stages"


def test_features_of_another_kind_are_made_by_mllib(labelled: "DataFrame") -> None:
    model = fit_features(VARIANTS["hashing"], labelled).model
    made = vectors(model, labelled)
    assert "MapInArrow" not in made._jdf.queryExecution().toString()
    assert made.count() == labelled.count()
