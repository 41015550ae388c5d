"""Cleaning and tokens: what a row of text becomes."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.ml import PipelineModel

from sentiment_assets.spark import text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TOKENS = {
    "I LOVE it": ["i", "love", "it"],
    "looooove it!!!!!": ["loove", "it", "!", "!"],
    "see http://a.bc/d?e=1 and www.x.org now": ["see", "<url>", "and", "<url>", "now"],
    "@Some_One hi": ["<user>", "hi"],
    "fish &amp; chips &lt;3": ["fish", "&", "chips", "<", "3"],
    "twice escaped &amp;lt;3 &amp;quot;": ["twice", "escaped", "<", "3", '"'],
    "don't, can\u2019t": ["don't", ",", "can't"],
    "caf\u00e9 na\u00efve \u65e5\u672c": ["caf\u00e9", "na\u00efve", "\u65e5\u672c"],
    "ok\U0001f600\U0001f600go": ["ok", "\U0001f600", "\U0001f600", "go"],
    "a\u00a0b\u2028c\td\ne": ["a", "b", "c", "d", "e"],
    "100 a_b": ["100", "a_b"],
    "": [],
    "   ": [],
    None: [],
}


def column(
    spark: "SparkSession", stages: list[object], texts: list[str | None], name: str
) -> list[list[str]]:
    frame = spark.createDataFrame(list(enumerate(texts)), "id INT, text STRING")
    rows = PipelineModel(stages=stages).transform(frame).orderBy("id").select(name).collect()  # type: ignore[arg-type]
    return [row[0] for row in rows]


def test_tokens_of_each_kind_of_text(spark: "SparkSession") -> None:
    found = column(spark, [text.clean_tokens()], list(TOKENS), text.TOKENS)
    assert dict(zip(TOKENS, found, strict=True)) == TOKENS


def test_scoped_terms_mark_negated_words_the_last_clause_and_the_ends(spark: "SparkSession") -> None:
    stages = [text.clean_tokens(), text.scoped_terms()]
    (terms,) = column(spark, stages, ["I don't like rain, but now sun!"], text.TERMS)
    assert {"not:like", "not:rain"} == {term for term in terms if term.startswith("not:")}
    assert {"last:now", "last:sun", "last:!"} == {term for term in terms if term.startswith("last:")}
    assert {"<s> i", "<s> i don't", "! </s>", "sun ! </s>", "like rain ,", "sun"} <= set(terms)


def test_a_text_of_one_clause_is_its_own_last_clause_and_no_text_has_no_terms(spark: "SparkSession") -> None:
    stages = [text.clean_tokens(), text.scoped_terms(), text.character_ngrams(5)]
    one, empty, null = column(spark, stages, ["so good ...", "", None], text.TERMS)
    assert [term for term in one if term.startswith("last:")] == ["last:so", "last:good", "last:.", "last:."]
    assert empty == null == []
    assert column(spark, stages, [None, "ab c"], text.PIECES) == [[], [" ab c", "ab c "]]


def test_a_megabyte_of_punctuation_is_split_like_any_text(spark: "SparkSession") -> None:
    stages = [text.clean_tokens(), text.scoped_terms()]
    (terms,) = column(spark, stages, ["! ? " * 250_000], text.TERMS)
    assert len(terms) == 500_000 + 500_001 + 500_000 + 64


def test_the_stages_do_the_same_after_saving_and_loading(spark: "SparkSession", tmp_path: Path) -> None:
    stages = [text.clean_tokens(), text.scoped_terms()]
    PipelineModel(stages=stages).write().save(str(tmp_path / "stages"))  # type: ignore[arg-type]
    loaded = PipelineModel.load(str(tmp_path / "stages"))
    texts = list(TOKENS)
    assert column(spark, loaded.stages, texts, text.TERMS) == column(spark, stages, texts, text.TERMS)  # type: ignore[arg-type]


def test_published_text_only_fills_nulls(spark: "SparkSession") -> None:
    assert column(spark, [text.published_text()], ["A &amp; b", None], text.RAW) == ["A &amp; b", ""]


@pytest.mark.parametrize("name", ["select", "from", "a`b", "with space"])
def test_columns_of_the_caller_pass_through_whatever_their_names(spark: "SparkSession", name: str) -> None:
    frame = spark.createDataFrame([("hi", 1)], ["text", name])
    assert text.clean_tokens().transform(frame).columns[:2] == ["text", name]
