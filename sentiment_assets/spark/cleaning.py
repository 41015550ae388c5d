"""Which labelled rows are used, and on which side of the split they stand. Pure ``df -> df``, native Spark only.

Belongs here: conflicting ids, duplicates in form, the split.
Does not belong here: cleaning a text for a model (``text``): that is a stage of every model, the rows stay raw.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

POSITIVE_TARGET = 4

_LABELLED = ("tweet_id", "author", "label", "text_key", "text")
# A tweet that occurs with both labels occurs twice. An id of more rows is no identity but a placeholder.
_COPIES_OF_ONE_TWEET = 4
_BUCKETS = 1_000_000
_ENTITIES = (
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", "'"),
    ("&#39;", "'"),
    ("&apos;", "'"),
    ("&nbsp;", " "),
)


@dataclass(frozen=True)
class Deduplicated:
    """Result of :func:`deduplicate`; both parts come from one pass over the rows, kept on disk meanwhile.

    Parameters
    ----------
    raw
        The rows given.
    groups
        One row for each normalised text: the copy kept and how many there were.
    """

    raw: "DataFrame"
    groups: "DataFrame"

    @cached_property
    def tweets(self) -> "DataFrame":
        """Columns of ``cleaned_tweets``, each normalised text once."""
        return self.groups.where("sound").select(
            "kept.tweet_id", "kept.author", "label", "text_key", "kept.text"
        )

    def counts(self) -> dict[str, int]:
        """Rows in, rows dropped by each step, rows out; they add up.

        ``conflicting_ids`` rows whose id occurs with both labels; ``empty_texts`` nothing but links, mentions
        and punctuation; ``conflicting_texts`` normalised text with both labels; ``exact_duplicates`` same
        text as a row kept; ``normalised_duplicates`` same text but for its form.
        """

        def total(value: "Column | str", condition: "Column | str") -> "Column":
            condition = F.expr(condition) if isinstance(condition, str) else condition
            return F.coalesce(
                F.sum(F.when(condition, F.expr(value) if isinstance(value, str) else value)), F.lit(0)
            )

        found = self.groups.agg(
            total("copies", "true").alias("grouped"),
            total("copies", "empty").alias("empty_texts"),
            total("copies", "NOT empty AND mixed").alias("conflicting_texts"),
            total("copies - forms", "sound").alias("exact_duplicates"),
            total("forms - 1", "sound").alias("normalised_duplicates"),
            total("1", "sound").alias("rows_out"),
        ).first()
        counts = {} if found is None else {name: int(value) for name, value in found.asDict().items()}
        rows_in = self.raw.count()
        return {
            "rows_in": rows_in,
            "conflicting_ids": rows_in - counts.pop("grouped"),
            **counts,
        }

    def release(self) -> None:
        """Free the disk space."""
        self.groups.unpersist()


def deduplicate(raw: "DataFrame") -> Deduplicated:
    """Drop what would teach a model nothing or leak from training into the test.

    Both copies of a tweet whose id occurs with both labels are dropped, and all copies of a normalised text
    that occurs with both labels; of the other texts one copy is kept (the smallest id), whatever the order
    or partitions of the rows.

    Parameters
    ----------
    raw
        Columns of ``raw_tweets``.
    """
    rows = raw.select(
        "tweet_id",
        "author",
        F.when(F.col("target") == POSITIVE_TARGET, 1.0).otherwise(0.0).alias("label"),
        "text",
    )
    conflicting = (
        rows.groupBy("tweet_id")
        .agg(F.min("label").alias("low"), F.max("label").alias("high"), F.count("*").alias("copies"))
        .where(f"low < high AND copies <= {_COPIES_OF_ONE_TWEET}")
        .select("tweet_id")
    )
    normal = rows.join(conflicting, "tweet_id", "left_anti").withColumn("normal", normalised("text"))
    # One shuffle serves both groupings: rows of one key stay together. Its number is fixed, or adaptive
    # execution would put a small table into one partition, one file, and all that follows on one core.
    partitions = raw.sparkSession.sparkContext.defaultParallelism
    forms = (
        normal.select("*", text_key("normal").alias("text_key"))
        .repartition(partitions, "text_key")
        .groupBy("text_key", "text")
        .agg(
            F.min(F.struct("tweet_id", "author", "text")).alias("kept"),
            F.min("label").alias("low"),
            F.max("label").alias("high"),
            F.count("*").alias("copies"),
            F.first(F.col("normal") == "").alias("empty"),
        )
    )
    groups = (
        forms.groupBy("text_key")
        .agg(
            F.min("kept").alias("kept"),
            F.min("low").alias("label"),
            (F.min("low") < F.max("high")).alias("mixed"),
            F.sum("copies").alias("copies"),
            F.count("*").alias("forms"),
            F.first("empty").alias("empty"),
        )
        .withColumn("sound", F.expr("NOT empty AND NOT mixed"))
        .persist(StorageLevel.DISK_ONLY)
    )
    return Deduplicated(raw, groups)


def normalised(text: "Column | str") -> "Column":
    """The text without what its form adds: two tweets equal in this say the same.

    Lower case, entities undone, links and mentions gone, letters repeated three times and more cut to two,
    only words, numbers and symbols (hearts, emoji) left, one space between them. Coarser than the cleaning of
    any model, so that texts equal to a model are equal here.
    """
    column = F.lower(F.coalesce(text, F.lit("")))
    plain = column
    for entity, character in _ENTITIES:
        plain = F.replace(plain, F.lit(entity), F.lit(character))
    column = F.when(F.contains(column, F.lit("&")), plain).otherwise(column)
    linked = (
        F.contains(column, F.lit("@")) | F.contains(column, F.lit("http")) | F.contains(column, F.lit("www."))
    )
    bare = F.regexp_replace(column, r"(?:https?://|www\.)\S*|@[a-z0-9_]+", " ")
    column = F.when(linked, bare).otherwise(column)
    column = F.translate(column, "'\u2019`", "")
    column = F.regexp_replace(column, r"[^\p{L}\p{N}\p{So}]+", " ")
    return F.trim(F.regexp_replace(column, r"(.)\1{2,}", "$1$1"))


def text_key(normal: "Column | str") -> "Column":
    """Hash of a normalised text, 16 hex digits (among 1.6 M texts two collide with a chance of 1 in 10 M)."""
    return F.lpad(F.lower(F.hex(F.xxhash64(normal))), 16, "0")


def split(cleaned: "DataFrame", *, test_fraction: float = 0.2, seed: int) -> "tuple[DataFrame, DataFrame]":
    """Divide rows into train and test by a hash of the seed and the normalised text.

    The same text falls on the same side whatever else is in the data. So a model fitted earlier, on other
    rows, can be scored on a newer test set with the same seed and fraction: it has seen none of it. Each
    label is drawn with the same probability.

    Parameters
    ----------
    cleaned
        Columns of ``cleaned_tweets``.
    test_fraction
        Share set aside, in steps of a millionth.
    seed
        Of the draw.

    Returns
    -------
    tuple
        ``train_tweets`` and ``test_tweets``; the latter with ``half``: 'selection' ranks candidates,
        'report' is only reported.
    """
    draw = F.pmod(F.xxhash64(F.lit(seed), "text_key"), F.lit(_BUCKETS))
    in_test = draw < round(test_fraction * _BUCKETS)
    coin = F.pmod(F.xxhash64(F.lit(seed), F.lit("half"), "text_key"), F.lit(2))
    half = F.when(coin == 0, "selection").otherwise("report").alias("half")
    return (
        cleaned.where(~in_test).select(*_LABELLED),
        cleaned.where(in_test).select(*_LABELLED[:-1], half, "text"),
    )


def split_by_author(
    cleaned: "DataFrame", *, test_fraction: float = 0.2, seed: int
) -> "tuple[DataFrame, DataFrame]":
    """Divide rows so that no author stands on both sides: a model cannot profit from knowing how somebody writes.

    Rows without a known author (``unknown`` in copies that lost it) count as authors of their own.

    Parameters
    ----------
    cleaned
        Columns of ``cleaned_tweets``.
    test_fraction
        Share of the authors set aside, in steps of a millionth.
    seed
        Of the draw.

    Returns
    -------
    tuple
        Train and test rows, with the columns given.
    """
    known = F.nullif(F.lower(F.trim("author")), F.lit("unknown"))
    whose = F.coalesce(F.nullif(known, F.lit("")), F.col("text_key"))
    draw = F.pmod(F.xxhash64(F.lit(seed), F.lit("author"), whose), F.lit(_BUCKETS))
    in_test = draw < round(test_fraction * _BUCKETS)
    return cleaned.where(~in_test), cleaned.where(in_test)


def leaked_keys(train: "DataFrame", test: "DataFrame") -> int:
    """Number of normalised texts that stand on both sides; 0, or every figure is too good."""
    return train.select("text_key").distinct().join(test.select("text_key").distinct(), "text_key").count()
