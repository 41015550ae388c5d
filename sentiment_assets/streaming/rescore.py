"""New scores for past predictions, from the table itself: same messages, another model, one commit.

Rows are found in one fixed version of the table, so what the stream appends meanwhile is neither scored again nor
lost. Old scores stay readable at the version before (seven days).
Does not belong here: staging and committing (``staging``).
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sentiment_assets.failures import StreamError
from sentiment_assets.lake.log import pin
from sentiment_assets.lake.opening import open_table
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import open_existing, read, table_exists, table_version
from sentiment_assets.spark.scoring import Model, score, sentiment_expr
from sentiment_assets.streaming.serving import neutral_band
from sentiment_assets.streaming.staging import Plan, Staging, pieces_of

PIECE_ROWS = 100_000
"""Half a minute of work: what a kill can cost."""

Highest = dict[tuple[str, int], int]
"""(topic, partition) -> highest offset."""


@dataclass(frozen=True)
class Bound:
    """One end of the range: a moment of Kafka's timestamp, or a version of the table."""

    moment: datetime | None = None
    version: int | None = None

    @classmethod
    def parse(cls, text: str | None) -> "Bound":
        """Read ``2026-11-24``, ``2026-11-24T12:00:00Z`` or a table version such as ``17``.

        Raises
        ------
        ValueError
            For anything else.
        """
        if text is None:
            return cls()
        if text.isascii() and text.isdigit():
            return cls(version=int(text))
        moment = datetime.fromisoformat(text)
        return cls(moment=moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def plan_rescore(settings: Settings, begin: Bound, end: Bound, model_version: str) -> Callable[[], Plan]:
    """How to make the plan; reads the table when called.

    Parameters
    ----------
    begin, end
        Rows whose message came at or after the one and before the other; by version: rows that the table did not
        have yet at ``begin`` and had at ``end``.

    Raises
    ------
    StreamError
        When called and there is no row in the range, or no such version.
    """

    def make() -> Plan:
        path = settings.table(PREDICTIONS.name)
        if not table_exists(path):
            raise StreamError("There are no predictions yet.", "Run the stream first.")
        pinned = table_version(path)
        # Staging takes its time, and a kill and a day may lie in between.
        pin(path, pinned)
        rows = _rows(settings, pinned)
        condition = _condition(settings, begin, end, _highest(rows))
        chosen = _chosen(settings, rows, begin, end)
        if not chosen.num_rows:
            raise StreamError(
                "No prediction is in this range.", "`sentiment-assets status` shows what there is."
            )
        return Plan(
            job=job_name(begin, end, model_version),
            what=f"{chosen.num_rows:,} predictions scored anew with {model_version}",
            model_version=model_version,
            pieces=_pieces(chosen),
            replaces={PREDICTIONS.name: condition},
            rows={PREDICTIONS.name: chosen.num_rows},
            table_ids={PREDICTIONS.name: str(open_existing(path).metadata().id)},
            facts={"table_version": pinned, "band": neutral_band(settings, model_version)},
        )

    return make


def job_name(begin: Bound, end: Bound, model_version: str) -> str:
    """The same for the same arguments, so that the same command goes on with what was begun."""
    digest = hashlib.sha256(json.dumps([str(begin), str(end), model_version]).encode()).hexdigest()
    return f"rescore-{digest[:16]}"


def stage_piece(
    spark: SparkSession, settings: Settings, staging: Staging, plan: Plan, piece: str, model: Model
) -> None:
    """Score the rows of one piece.

    Raises
    ------
    StreamError
        When Spark fails.
    """
    version = int(plan.facts["table_version"])
    rows = read(spark, settings.table(PREDICTIONS.name), version)
    # The offsets first: they are what lets Delta leave files out.
    rows = rows.where(plan.pieces[piece]).where(plan.replaces[PREDICTIONS.name])
    scored = score(model, rows).withColumns(
        {
            "sentiment": sentiment_expr(F.col("probability"), float(plan.facts.get("band", 0))),
            "model_version": F.lit(plan.model_version),
            "scored_at": F.current_timestamp(),
        }
    )
    staging.write(piece, {PREDICTIONS.name: scored.select(PREDICTIONS.column_names)})


def _rows(settings: Settings, version: int) -> pa.Table:
    """Position and time of every row at a version."""
    path = settings.table(PREDICTIONS.name)
    if not 0 <= version <= table_version(path):
        raise StreamError(
            f"The table predictions has no version {version}.", f"Choose one from 0 to {table_version(path)}."
        )
    columns = ["topic", "partition", "offset", "kafka_timestamp"]
    try:
        return open_table(path, version).to_pyarrow_dataset().to_table(columns=columns)
    except DeltaError as error:
        raise StreamError(
            f"Version {version} of the table predictions can no longer be read.",
            "Name a time instead: only the newest thousand versions and those before a rescore are kept.",
        ) from error


def _highest(rows: pa.Table) -> Highest:
    grouped = rows.group_by(["topic", "partition"]).aggregate([("offset", "max")]).to_pylist()
    return {(row["topic"], row["partition"]): row["offset_max"] for row in grouped}


def _condition(settings: Settings, begin: Bound, end: Bound, pinned: Highest) -> str:
    """The range as SQL over the table's columns; never true for a row that came after the pinned version."""
    after = _highest(_rows(settings, begin.version)) if begin.version is not None else {}
    upto = _highest(_rows(settings, end.version)) if end.version is not None else pinned
    places = [
        f"(topic = {_sql(topic)} AND partition = {partition} AND offset > {after.get((topic, partition), -1)} "
        f"AND offset <= {highest})"
        for (topic, partition), highest in sorted(upto.items())
    ]
    times = []
    if begin.moment is not None:
        times.append(f"kafka_timestamp >= {_timestamp(begin.moment)}")
    if end.moment is not None:
        times.append(f"kafka_timestamp < {_timestamp(end.moment)}")
    return " AND ".join([*times, "(" + (" OR ".join(places) or "false") + ")"])


def _chosen(settings: Settings, rows: pa.Table, begin: Bound, end: Bound) -> pa.Table:
    """The rows that meet the condition, found without Spark."""
    keep = pa.chunked_array([pa.array(np.ones(rows.num_rows, dtype=bool))])
    if begin.moment is not None:
        keep = pc.and_(keep, pc.greater_equal(rows["kafka_timestamp"], pa.scalar(begin.moment)))
    if end.moment is not None:
        keep = pc.and_(keep, pc.less(rows["kafka_timestamp"], pa.scalar(end.moment)))
    for bound, wanted in ((begin, False), (end, True)):
        if bound.version is not None:
            within = _within(rows, _highest(_rows(settings, bound.version)))
            keep = pc.and_(keep, within if wanted else pc.invert(within))
    return rows.filter(keep)


def _within(rows: pa.Table, highest: Highest) -> pa.ChunkedArray:
    found = pa.chunked_array([pa.array(np.zeros(rows.num_rows, dtype=bool))])
    for (topic, partition), offset in highest.items():
        place = pc.and_(pc.equal(rows["topic"], topic), pc.equal(rows["partition"], partition))
        found = pc.or_(found, pc.and_(place, pc.less_equal(rows["offset"], offset)))
    return found


def _pieces(rows: pa.Table) -> dict[str, str]:
    """Cut the rows into pieces of neighbouring offsets; each is named and described by a condition."""
    pieces: dict[str, str] = {}
    for place in rows.group_by(["topic", "partition"]).aggregate([]).to_pylist():
        topic, partition = place["topic"], place["partition"]
        here = rows.filter(pc.and_(pc.equal(rows["topic"], topic), pc.equal(rows["partition"], partition)))
        offsets = np.sort(here["offset"].to_numpy())
        for begin, end in pieces_of(len(offsets), PIECE_ROWS):
            pieces[f"piece-{len(pieces):05d}"] = (
                f"topic = {_sql(topic)} AND partition = {partition} "
                f"AND offset BETWEEN {offsets[begin]} AND {offsets[end - 1]}"
            )
    return pieces


def _sql(text: str) -> str:
    """A string literal; topics and file digests hold no quote, but a literal that could end early is none."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _timestamp(moment: datetime) -> str:
    return f"TIMESTAMP '{moment.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f')}Z'"
