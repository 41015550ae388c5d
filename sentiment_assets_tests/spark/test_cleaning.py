"""Which rows are used and where they stand after the split."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment_assets.schemas import CLEANED_TWEETS, RAW_TWEETS, TEST_TWEETS, TRAIN_TWEETS
from sentiment_assets.spark.cleaning import deduplicate, leaked_keys, normalised, split, text_key
from sentiment_assets.spark.text import clean_tokens


def raw(spark, rows: Iterable[tuple[int, str, str]]):
    """Rows of (target, id, text)."""
    full = [(target, identity, "d", "NO_QUERY", "ann", text) for target, identity, text in rows]
    return spark.createDataFrame(full, RAW_TWEETS.spark_schema())


def kept(cleaned: Any) -> set[tuple[str, float, str]]:
    return {(row.tweet_id, row.label, row.text) for row in cleaned.tweets.collect()}


def test_each_step_drops_what_it_names_and_the_counts_add_up(spark):
    cleaned = deduplicate(
        raw(
            spark,
            [
                (0, "1", "my umbrella broke"),
                (4, "2", "what a lovely day"),
                # One tweet with both labels: both copies go.
                (0, "3", "it is what it is"),
                (4, "3", "it is what it is"),
                # The same text again, exactly and in another form: the smallest id stays.
                (4, "5", "so happy"),
                (4, "4", "so happy"),
                (4, "6", "@bob So HAPPY!!! http://example.com/x"),
                # One text in several forms with both labels: all copies go.
                (0, "7", "thank you"),
                (4, "8", "@ann Thank you!"),
                (4, "9", "@cid Thank you!"),
                # Nothing is left of it.
                (4, "10", "@ann http://example.com ..."),
            ],
        )
    )
    assert kept(cleaned) == {
        ("1", 0.0, "my umbrella broke"),
        ("2", 1.0, "what a lovely day"),
        ("4", 1.0, "so happy"),
    }
    counts = cleaned.counts()
    assert counts == {
        "rows_in": 11,
        "conflicting_ids": 2,
        "empty_texts": 1,
        "conflicting_texts": 3,
        "exact_duplicates": 1,
        "normalised_duplicates": 1,
        "rows_out": 3,
    }
    assert 2 * counts["rows_in"] == sum(counts.values())
    assert cleaned.tweets.columns == CLEANED_TWEETS.column_names


def test_ids_that_occur_twice_with_one_label_are_no_conflict(spark):
    cleaned = deduplicate(
        raw(spark, [(0, "1", "rain again"), (0, "1", "rain all day"), (4, "2", "sun at last")])
    )
    assert len(kept(cleaned)) == 3
    assert cleaned.counts()["conflicting_ids"] == 0


def test_a_placeholder_id_of_many_rows_is_no_conflict(spark):
    rows = [(4 * (i % 2), "unknown", f"tweet number {i}") for i in range(6)]
    assert deduplicate(raw(spark, rows)).counts()["rows_out"] == 6


def test_the_copy_kept_does_not_depend_on_order_or_partitions(spark):
    rows = [(4, str(identity), f"@u{identity} same text{'!' * (identity % 3)}") for identity in range(10, 40)]
    assert (
        kept(deduplicate(raw(spark, rows).repartition(7)))
        == kept(deduplicate(raw(spark, rows[::-1]).coalesce(1)))
        == {("10", 1.0, "@u10 same text!")}
    )


def test_an_empty_table_gives_an_empty_table(spark):
    cleaned = deduplicate(raw(spark, []))
    assert cleaned.counts()["rows_out"] == 0
    assert kept(cleaned) == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Sooooo   HAPPY!!!  ", "soo happy"),
        ("@bob_1: look http://example.com/a?b=c www.example.com", "look"),
        ("don't &amp; won&#39;t &lt;3", "dont wont 3"),
        ("don\u2019t", "dont"),
        ("5000 caf\xe9s \u2665 \U0001f600", "500 caf\xe9s \u2665 \U0001f600"),
        (
            "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440",
            "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
        ),
        ("... !!", ""),
    ],
)
def test_a_normalised_text_has_lost_its_form_alone(spark, text, expected):
    frame = spark.createDataFrame([(text,)], "text STRING")
    assert frame.select(normalised("text")).first()[0] == expected


HOSTILE = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.text(alphabet="aA@#&;'\".!<lt>gthtp:/w \u0130\u00df\u2019\U0001f600", max_size=40),
        st.sampled_from(
            ["&amp;lt;3", "&amp;amp;", "httphttp://x", "@@a", "a-a-a", "aa'a", "www.www.", "&nbsp;x"]
        ),
    ),
    min_size=30,
    max_size=30,
)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=HOSTILE)
def test_normalising_twice_changes_nothing_more(spark, texts):
    frame = spark.createDataFrame([(text,) for text in texts], "text STRING")
    once = frame.select("text", normalised("text").alias("once"))
    assert (
        once.select("text", "once", normalised("once").alias("twice")).where("once != twice").collect() == []
    )


def test_texts_that_are_equal_to_a_model_have_one_key(spark):
    forms = [
        "@ann Soooo cool &amp; free http://example.com",
        "@bob_2 soooooo COOL & free www.example.org",
        "@x sooo cool &amp; free https://example.net/y",
    ]
    frame = spark.createDataFrame([(text,) for text in forms], "text STRING")
    keyed = clean_tokens().transform(frame).select("ml_tokens", text_key(normalised("text")).alias("key"))
    assert keyed.distinct().count() == 1
    assert len(keyed.first().key) == 16


@pytest.fixture(scope="module")
def cleaned(spark):
    rows = [(f"{i}", "ann", float(i % 2), f"{hash_of(i):016x}", f"tweet {i}") for i in range(4000)]
    return spark.createDataFrame(rows, CLEANED_TWEETS.spark_schema()).cache()


def hash_of(number: int) -> int:
    return number * 0x9E3779B97F4A7C15 % 2**64


def keys(frame: Any) -> set[str]:
    return {row.text_key for row in frame.select("text_key").collect()}


def test_the_split_takes_the_fraction_of_each_label_and_loses_no_row(cleaned):
    train, test = split(cleaned, test_fraction=0.2, seed=1)
    assert train.columns == TRAIN_TWEETS.column_names
    assert test.columns == TEST_TWEETS.column_names
    assert keys(train) | keys(test) == keys(cleaned)
    assert not keys(train) & keys(test)
    assert leaked_keys(train, test) == 0
    counts = {(row.half, row.label): row["count"] for row in test.groupBy("half", "label").count().collect()}
    assert counts.keys() == {(half, label) for half in ("selection", "report") for label in (0.0, 1.0)}
    # 4,000 rows: 200 expected in each cell; five standard deviations are 67.
    assert all(130 < count < 270 for count in counts.values())


def test_a_text_stays_on_its_side_whatever_else_is_in_the_data(cleaned):
    _, test = split(cleaned, seed=1)
    _, test_of_part = split(cleaned.where("label = 1.0").repartition(5), seed=1)
    assert keys(test_of_part) == keys(test.where("label = 1.0"))
    _, larger = split(cleaned, test_fraction=0.3, seed=1)
    assert keys(test) < keys(larger)


def test_another_seed_makes_another_split(cleaned):
    assert keys(split(cleaned, seed=1)[1]) != keys(split(cleaned, seed=2)[1])


def test_leaked_keys_are_counted(cleaned):
    train, test = split(cleaned, seed=1)
    assert leaked_keys(train.union(test.drop("half").limit(3)), test) == 3
