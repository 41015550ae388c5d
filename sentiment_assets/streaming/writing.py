"""How the rows of a micro-batch are scored and written: by workers into files, or by Spark into the table.

Belongs here: the two plans. Does not belong here: which of them, and that each batch is written once (``sink``).
"""

import logging
import uuid
from dataclasses import replace
from pathlib import Path

from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sentiment_assets.failures import last_line
from sentiment_assets.settings import Settings
from sentiment_assets.spark.compiled.model import CompiledModel, prepare_readers
from sentiment_assets.spark.session import has_usual_lower_case, is_all_here
from sentiment_assets.spark.text import LOWER, lowered
from sentiment_assets.streaming.parsing import parse
from sentiment_assets.streaming.scored_files import (
    MESSAGES,
    WRITTEN,
    Folder,
    FromMessages,
    FromTweets,
    Scoring,
    Written,
)
from sentiment_assets.streaming.serving import Served, serve

log = logging.getLogger(__name__)

_TWEET = (
    "partition",
    "offset",
    "kafka_timestamp",
    "tweet_id",
    "author",
    "created_at",
    "text",
    "reason",
    LOWER,
)


def is_ours(settings: Settings) -> bool:
    """Whether no other installation can write the tables."""
    return settings.storage_root == settings.root


def scoring_by_workers(settings: Settings, served: Served) -> Scoring | None:
    """What workers need to score and write files themselves; ``None``: Spark has to.

    Workers of a cluster may lack the packages, tables elsewhere may have other writers, a pipeline runs in the JVM.
    """
    model = served.model
    if not (isinstance(model, CompiledModel) and is_ours(settings) and is_all_here(settings)):
        return None
    return Scoring(str(model.folder), str(model.cache), served.version, settings.topic, served.band)


def serve_stream(spark: SparkSession, settings: Settings, version: str) -> Served:
    """Make a version ready to score a stream: as :func:`~.serving.serve`, and the workers to read its messages.

    Raises
    ------
    ModelError
        As :func:`~.serving.load_model`.
    """
    return with_readers(spark, settings, serve(spark, settings, version))


def with_readers(spark: SparkSession, settings: Settings, served: Served) -> Served:
    """The same, and whether workers may read messages too: then they have loaded what reads them."""
    scoring = scoring_by_workers(settings, served)
    if scoring is None:
        return served
    if not has_usual_lower_case(spark):
        log.warning("Spark reads all messages: the language of this JVM has a lower case of its own.")
        return served
    try:
        prepare_readers(spark, scoring.cache)
    except PySparkException as error:
        log.warning("Spark reads all messages: the compiled reader does not run here (%s).", last_line(error))
        return served
    return replace(served, read_by_workers=True)


def write_files(
    messages: DataFrame,
    scoring: Scoring,
    table: Path,
    *,
    one_file: bool = False,
    read_by_workers: bool = True,
) -> Written:
    """Score messages and write the rows as files into the table's folder; none is part of the table yet.

    When it fails, its files are removed, but for those of tasks that Spark still cancels: these go after a week.

    Parameters
    ----------
    messages
        Rows of Spark's Kafka source, of one topic, at least the columns of :data:`~.scored_files.MESSAGES`.
    one_file
        Of a batch of few messages, read by Spark alone.
    read_by_workers
        Let them read what is plain. Where that turns out not to be worth it, the result says so (``gave_up``).

    Raises
    ------
    PySparkException, Py4JError
        When Kafka cannot be read, a worker fails, or the disk is full.
    """
    needed = messages.select("value", "partition", "offset", "timestamp")
    folder = Folder(str(table), uuid.uuid4().hex)
    try:
        if one_file:
            return _write_tweets(needed.coalesce(1), scoring, folder)
        if read_by_workers:
            plain = _write_plain(needed, scoring, folder)
            if not plain.gave_up:
                return plain
            discard(plain, table)
        return replace(_write_tweets(needed, scoring, folder), gave_up=read_by_workers)
    except BaseException:
        for file in table.glob(f"{folder.prefix}*"):
            file.unlink(missing_ok=True)
        raise


def discard(written: Written, table: Path) -> None:
    """Remove files that will not be part of the table."""
    for file in written.files:
        (table / file.name).unlink(missing_ok=True)


def _write_plain(messages: DataFrame, scoring: Scoring, folder: Folder) -> Written:
    """Let workers read what is plain, and Spark what they leave."""
    # Kept, so that the same workers score the rest: others would have to load all that these have.
    read = messages.mapInArrow(FromMessages(scoring, folder), MESSAGES).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        lines = read.where("offset IS NULL").select("value").collect()
        plain = sum((Written.from_json(line.value) for line in lines), Written())
        if plain.gave_up or not plain.left:
            return plain
        return plain + _write_tweets(read.where("offset IS NOT NULL"), scoring, folder)
    finally:
        read.unpersist()


def _write_tweets(messages: DataFrame, scoring: Scoring, folder: Folder) -> Written:
    # What is the same for all rows, or not needed, is not handed over.
    whole = messages.withColumns({"key": F.lit(None).cast("binary"), "topic": F.lit(None).cast("string")})
    tweets = parse(whole).selectExpr("*", *lowered(ascii_first=True)).select(*_TWEET)
    lines = tweets.mapInArrow(FromTweets(scoring, folder), WRITTEN).collect()
    return sum((Written.from_json(line.written) for line in lines), Written())


def append(rows: DataFrame, table: Path, *, small: bool) -> None:
    """Append scored rows to a Delta table in one commit of Spark's.

    Parameters
    ----------
    small
        One file instead of one a partition: files of a stream are many, and stay for a week.
    """
    (rows.coalesce(1) if small else rows).write.format("delta").mode("append").save(str(table))
