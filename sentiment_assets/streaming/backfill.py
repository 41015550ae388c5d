"""History from a file into the stream's tables, by the stream's own parsing and scoring, past the live topic.

The rows get a topic of their own, ``backfill:<digest of the file>``, partition 0 and the message's number in the file
as offset. So (topic, partition, offset) stays unique, and the same file again replaces its own rows.
Does not belong here: reading the file (``local.history``), staging and committing (``staging``).
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sentiment_assets.failures import SourceError
from sentiment_assets.kafka.replay import Message
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.spark.scoring import Model
from sentiment_assets.streaming.parsing import parse
from sentiment_assets.streaming.query import predictions
from sentiment_assets.streaming.staging import Plan, Staging, pieces_of

PIECE_MESSAGES = 100_000
_SCHEMA = pa.schema(
    [
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", "UTC")),
    ]
)


def file_topic(file: Path) -> str:
    """``backfill:`` and the file's digest.

    Raises
    ------
    SourceError
        When it cannot be read.
    """
    try:
        with file.open("rb") as content:
            return f"backfill:{hashlib.file_digest(content, 'sha256').hexdigest()[:16]}"
    except OSError as error:
        raise SourceError(
            f"The file {file} cannot be read ({error.strerror}).", "Name a file that can."
        ) from error


def plan_backfill(
    file: Path, content: Callable[[], Iterator[Message]], model_version: str, band: float = 0.0
) -> Callable[[], Plan]:
    """How to make the plan; counts the messages when called.

    Parameters
    ----------
    content
        Gives the file's messages from the start.
    band
        Half the width of the neutral band; 0: none.

    Raises
    ------
    SourceError
        When called and the file cannot be read or is empty.
    """

    def make() -> Plan:
        count = sum(1 for _ in content())
        if not count:
            raise SourceError(f"{file} has no usable row.", "Name a file with tweets.")
        topic = file_topic(file)
        condition = f"topic = '{topic}'"
        return Plan(
            job=job_name(topic, model_version),
            what=f"{count:,} messages of {file.name} scored with {model_version}",
            model_version=model_version,
            pieces={
                f"piece-{number:05d}": f"{begin} {end}"
                for number, (begin, end) in enumerate(pieces_of(count, PIECE_MESSAGES))
            },
            replaces={PREDICTIONS.name: condition, DEAD_LETTERS.name: condition},
            facts={
                "topic": topic,
                "messages": count,
                "taken_at": datetime.now(UTC).isoformat(),
                "band": band,
            },
        )

    return make


def job_name(topic: str, model_version: str) -> str:
    """The same for the same file and model."""
    digest = hashlib.sha256(f"{topic} {model_version}".encode()).hexdigest()
    return f"backfill-{digest[:16]}"


def stage_piece(
    spark: SparkSession,
    staging: Staging,
    plan: Plan,
    piece: str,
    model: Model,
    content: Iterator[Message],
) -> None:
    """Score the messages of one piece and put aside those that cannot be scored.

    Parameters
    ----------
    content
        The messages of this piece.

    Raises
    ------
    StreamError
        When Spark fails.
    """
    begin, _ = map(int, plan.pieces[piece].split())
    source = staging.folder / f"{piece}.in.parquet"
    taken_at = datetime.fromisoformat(plan.facts["taken_at"])
    rows = [
        {
            "key": message.key,
            "value": message.value,
            "topic": plan.facts["topic"],
            "partition": 0,
            "offset": begin + number,
            "timestamp": taken_at,
        }
        for number, message in enumerate(content)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), source)
    # Two readers of one file: Spark would give both tasks of a small file to one core.
    frame = spark.read.parquet(str(source)).repartition(spark.sparkContext.defaultParallelism)
    letters = parse(frame).where("reason IS NOT NULL").withColumn("seen_at", F.current_timestamp())
    staging.write(
        piece,
        {
            PREDICTIONS.name: predictions(frame, model, plan.model_version, float(plan.facts.get("band", 0))),
            DEAD_LETTERS.name: letters.select(DEAD_LETTERS.column_names),
        },
    )
    source.unlink()


def content_of(
    plan: Plan, piece: str, everything: Iterator[Message], at: int
) -> tuple[Iterator[Message], int]:
    """The messages of a piece from an iterator that stands at message ``at``; and where it stands afterwards."""
    begin, end = map(int, plan.pieces[piece].split())
    next(islice(everything, begin - at, begin - at), None)
    return islice(everything, end - begin), end
