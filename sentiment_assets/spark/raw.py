"""Labelled files into DataFrames, in parallel; what cannot be used is set aside with its reason.

Belongs here: reading Sentiment140's format with Spark, the seeded sample, the version of the data.
Does not belong here: judging the file (``sources.sentiment140.inspect`` does, before) or duplicates (``cleaning``).
"""

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from sentiment_assets.failures import SetupError
from sentiment_assets.schemas import RAW_TWEETS, REJECTED_ROWS
from sentiment_assets.sources.sentiment140 import SourceFile
from sentiment_assets.sources.sentiment140 import rows as _rows

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

NEUTRAL_LABEL = "neutral label"

_CORRUPT = "_corrupt"
_GLOB = re.compile(r"([\[\]{}*?\\])")
_SPARK_ENCODINGS = {"iso8859-1": "ISO-8859-1", "utf-8-sig": "UTF-8"}


@dataclass(frozen=True)
class RawRead:
    """A labelled file as read.

    Parameters
    ----------
    tweets
        Usable rows, columns of ``raw_tweets``.
    rejected
        The others, columns of ``rejected_rows``.
    """

    tweets: "DataFrame"
    rejected: "DataFrame"


@dataclass(frozen=True)
class LabelledRead:
    """A labelled file for evaluation.

    Parameters
    ----------
    tweets
        Columns ``tweet_id``, ``author``, ``label`` (0.0 or 1.0), ``text``.
    neutral
        Rows left out because their label is neutral.
    rejected
        Rows left out because they cannot be used.
    """

    tweets: "DataFrame"
    neutral: int
    rejected: int


def read_raw(
    spark: "SparkSession",
    path: Path,
    *,
    encoding: str = _rows.ENCODING,
    rows: int | None = None,
    seed: int = 0,
    uri: str | None = None,
) -> RawRead:
    """Read a file to learn from.

    Parameters
    ----------
    spark
        Session to read with; a zip is unpacked into its local folder first.
    path
        CSV in Sentiment140's format, or a zip with one, that was inspected.
    encoding
        ISO-8859-1 or UTF-8.
    rows
        Most rows of a seeded sample; ``None`` for all rows.
    seed
        Of the sample. The same seed takes the same rows whatever the partitions are, and a smaller sample is
        part of a larger one.
    uri
        Where Spark reads the same CSV instead, since executors elsewhere do not have ``path``.

    Raises
    ------
    SourceError
        When the encoding is not supported or the zip is damaged.
    SetupError
        When there is no room to unpack a zip.
    """
    judged = _judge(spark, path, encoding, uri)
    tweets = judged.where("reason IS NULL").select(
        F.trim("target").cast("int").alias("target"), *RAW_TWEETS.column_names[1:]
    )
    if rows is not None:
        tweets = _sample(tweets, rows, seed)
    rejected = judged.where("reason IS NOT NULL").select("reason", "row")
    return RawRead(tweets, rejected.select(*REJECTED_ROWS.column_names))


def read_labelled(spark: "SparkSession", path: Path, encoding: str = _rows.ENCODING) -> LabelledRead:
    """Read a file to measure a model on; neutral rows are left out and counted.

    Raises
    ------
    SourceError, SetupError
        As :func:`read_raw`.
    """
    judged = _judge(spark, path, encoding)
    counts = {row["reason"]: row["count"] for row in judged.groupBy("reason").count().collect()}
    tweets = judged.where("reason IS NULL").select(
        "tweet_id",
        "author",
        F.when(F.trim("target") == str(_rows.POSITIVE), 1.0).otherwise(0.0).alias("label"),
        "text",
    )
    neutral = counts.pop(NEUTRAL_LABEL, 0)
    counts.pop(None, None)
    return LabelledRead(tweets, neutral, sum(counts.values()))


def read_as_published(spark: "SparkSession", path: Path) -> "tuple[DataFrame, DataFrame]":
    """Train and test rows as the published code makes them: ``randomSplit([0.8, 0.2], seed=2000)``, duplicates kept.

    Spark draws within each partition, over the rows sorted by all their columns. So it gives the published code's rows
    only when the file is read as that code reads it: the same six columns, the same parser, the same number of cores.

    Parameters
    ----------
    spark
        Session to read with.
    path
        CSV in Sentiment140's format, or a zip with one, that was inspected.

    Returns
    -------
    tuple
        Two frames with the columns ``text STRING, label DOUBLE``.
    """
    frame = spark.read.csv(
        _without_globs(_unpacked(spark, path)),
        schema="target INT, id STRING, date STRING, flag STRING, user STRING, text STRING",
        encoding="ISO-8859-1",
        escape='"',
    ).dropna()
    label = F.when(F.col("target") == _rows.POSITIVE, 1.0).otherwise(0.0).alias("label")
    train, test = frame.randomSplit([0.8, 0.2], seed=2000)
    return train.select("text", label), test.select("text", label)


def version_of(
    found: SourceFile, *, rows: int | None, seed: int, code_version: str, encoding: str = _rows.ENCODING
) -> str:
    """Version of the data that a file, a sample of it and the code that reads it make: 16 hex digits.

    A sample at least as large as the file is the file, whatever the seed.
    """
    sample = [rows, seed] if rows is not None and rows < found.rows else None
    codec = _rows.codec_name(encoding)
    read_as = [] if codec == _rows.codec_name(_rows.ENCODING) else [codec]
    return hashlib.sha256(json.dumps([found.sha256, sample, code_version, *read_as]).encode()).hexdigest()[
        :16
    ]


def _sample(tweets: "DataFrame", rows: int, seed: int) -> "DataFrame":
    """At most ``rows`` rows, those with the smallest hash of seed, id and text.

    The hash of the first row left out is found in a pass of its own, so that the sample stays in the file's
    partitions instead of being gathered in one. Both copies of a tweet that occurs with both labels have one
    hash: they come along together or stay away.
    """
    draw = F.xxhash64(F.lit(seed), "tweet_id", "text")
    smallest = tweets.select(draw.alias("draw")).orderBy("draw").limit(rows + 1)
    bound = smallest.agg(F.max("draw").alias("draw"), F.count("*").alias("found")).first()
    return tweets if bound is None or bound["found"] <= rows else tweets.where(draw < bound["draw"])


def _judge(spark: "SparkSession", path: Path, encoding: str, uri: str | None = None) -> "DataFrame":
    """All rows as text columns, with ``reason`` (null: usable) and ``row`` (as read)."""
    codec = _rows.codec_name(encoding)
    schema = ", ".join(f"{name} STRING" for name in (*_rows.COLUMNS, _CORRUPT))
    frame = (
        spark.read.schema(schema)
        .option("encoding", _SPARK_ENCODINGS[codec])
        .option("escape", '"')
        .option("mode", "PERMISSIVE")
        .option("columnNameOfCorruptRecord", _CORRUPT)
        # With pruning a row of seven columns passes whenever fewer are asked for.
        .option("columnPruning", "false")
        .csv(_place(spark, path, uri))
    )
    as_read = F.coalesce(_CORRUPT, F.to_csv(F.struct(*_rows.COLUMNS)))
    return frame.select(*_rows.COLUMNS, _reason().alias("reason"), as_read.alias("row"))


def _reason() -> "Column":
    target = F.trim(F.coalesce("target", F.lit("")))
    return (
        F.when(F.col(_CORRUPT).isNotNull(), _rows.WRONG_COLUMNS)
        .when(target == str(_rows.NEUTRAL), NEUTRAL_LABEL)
        .when(~target.isin(str(_rows.NEGATIVE), str(_rows.POSITIVE)), _rows.UNKNOWN_LABEL)
        .when(F.trim(F.coalesce("tweet_id", F.lit(""))) == "", _rows.MISSING_ID)
        .when(F.trim(F.coalesce("text", F.lit(""))) == "", _rows.EMPTY_TEXT)
    )


def _place(spark: "SparkSession", path: Path, uri: str | None) -> str:
    """What Spark reads: the object itself where there is one, unless it is a zip, which was unpacked here."""
    unpacked = _unpacked(spark, path)
    if uri is not None and unpacked == path.absolute():
        return _GLOB.sub(r"\\\1", uri)
    return _without_globs(unpacked)


def _unpacked(spark: "SparkSession", path: Path) -> Path:
    """The CSV itself. Of unpacked zips one is kept, so that a second run does not unpack it again."""
    with _rows.open_binary(path) as (stream, size):
        if not isinstance(stream, zipfile.ZipExtFile):
            return path.absolute()
        folder = Path(spark.conf.get("spark.local.dir", tempfile.gettempdir()) or "") / "unpacked"
        changed = path.stat().st_mtime_ns
        target = (
            folder / f"{hashlib.sha256(f'{path.absolute()}-{changed}-{size}'.encode()).hexdigest()[:16]}.csv"
        )
        if target.is_file():
            return target
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            part = target.with_suffix(".part")
            with part.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
            return part.replace(target)
        except OSError as error:
            raise SetupError(
                f"{path.name} cannot be unpacked to {folder} ({error.strerror or error}).",
                f"Free {size / 1e6:.0f} MB there, or unpack it elsewhere and name the CSV.",
            ) from error


def _without_globs(path: Path) -> str:
    """The path as Spark takes it literally: brackets and the like in a file name are no pattern."""
    return "file://" + _GLOB.sub(r"\\\1", str(path))
