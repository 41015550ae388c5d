"""Predictions as Parquet files, written by the Python workers that score them.

Rows go from Kafka to a worker once, and what comes back is a line a file: the JVM parses, encodes and copies nothing of
a plain message. Runs in Python workers of Spark: it imports neither PySpark nor, before a step runs, numba.
Does not belong here: the commit that makes a file part of the table (``lake.commits``), when a batch is written so
(``sink``).
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_assets.lake.files import DataFile, FileWriter, read_schema
from sentiment_assets.schemas import FIRST_MOMENT, LAST_MOMENT, PREDICTIONS
from sentiment_assets.spark.compiled.worker import reader, scorer

MESSAGES = "value BINARY, partition INT, offset BIGINT, timestamp TIMESTAMP"
"""Of Kafka's source, as far as it is used. A row without an offset is a file that was written, as JSON in its value."""
WRITTEN = "written STRING"
"""A line a file, as JSON."""

_MOMENT = pa.timestamp("us", "UTC")
_MESSAGES = pa.schema(
    {
        "value": pa.binary(),
        "partition": pa.int32(),
        "offset": pa.int64(),
        "timestamp": _MOMENT,
    }
)
_WRITTEN = pa.schema({"written": pa.string()})
_NEGATIVE, _NEUTRAL, _POSITIVE = range(3)
_SENTIMENTS = pa.array(["negative", "neutral", "positive"])
_LEFT_BYTES = 64 * 2**20
"""So much may be left to Spark of a task's messages, which keeps them meanwhile; more is not worth two ways."""
_SAMPLE = 16
"""Timestamps of an Arrow batch that are looked at, at least: its rows are in the order in which they came."""
_FIRST_MICROS, _LAST_MICROS = (
    int(datetime.fromisoformat(moment).timestamp()) * 1_000_000 for moment in (FIRST_MOMENT, LAST_MOMENT)
)


@dataclass(frozen=True)
class Scoring:
    """What scores, and where its rows go.

    Attributes
    ----------
    model
        Folder of the compiled tables.
    cache
        Where numba keeps compiled functions.
    version
        Of the model, for each row.
    topic
        From which all messages come.
    band
        Half the width of the neutral band; 0: none.
    """

    model: str
    cache: str
    version: str
    topic: str
    band: float


@dataclass(frozen=True)
class Folder:
    """Where the files of a batch go.

    Attributes
    ----------
    table
        Folder of the table.
    batch
        In the names of all files of the batch, by which they are found when it fails.
    """

    table: str
    batch: str

    @property
    def prefix(self) -> str:
        """With what the names begin."""
        return f"part-{self.batch}-"

    def new_path(self) -> Path:
        """Of a file that is not there yet."""
        return Path(self.table) / f"{self.prefix}{uuid.uuid4().hex[:12]}.snappy.parquet"


@dataclass(frozen=True)
class Written:
    """What became of some messages.

    Attributes
    ----------
    files
        Files that were written, not yet part of the table.
    rows, positives, bad
        Rows in them, positive ones among them, and messages that cannot be scored.
    left
        Messages that were left to Spark.
    gave_up
        Whether they were too many to be kept: workers do not read this topic with profit.
    sent
        A sample of the rows' Kafka timestamps, in milliseconds since the epoch.
    """

    files: tuple[DataFile, ...] = ()
    rows: int = 0
    positives: int = 0
    bad: int = 0
    left: int = 0
    gave_up: bool = False
    sent: tuple[int, ...] = ()

    def __add__(self, other: Self) -> "Written":
        return Written(
            self.files + other.files,
            self.rows + other.rows,
            self.positives + other.positives,
            self.bad + other.bad,
            self.left + other.left,
            self.gave_up or other.gave_up,
            self.sent + other.sent,
        )

    def to_json(self) -> str:
        """As a line that :meth:`from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read a line of :meth:`to_json`."""
        content = json.loads(line)
        content["files"] = tuple(DataFile(**file) for file in content["files"])
        content["sent"] = tuple(content["sent"])
        return cls(**content)


class _Scored:
    """The file of one task: rows come in Arrow batches, the file is begun with the first."""

    def __init__(self, scoring: Scoring, folder: Folder) -> None:
        self._scoring, self._folder = scoring, folder
        self._file: FileWriter | None = None
        self._scored_at = int(datetime.now(UTC).timestamp() * 1000) * 1000
        self.written = Written()

    def add(self, columns: dict[str, Any], lowered: Any) -> None:
        """Score rows and write them.

        Parameters
        ----------
        columns
            ``tweet_id, author, created_at, partition, offset, kafka_timestamp, text`` as Arrow arrays.
        lowered
            Their texts as ``text.lowered`` makes them.

        Raises
        ------
        ValueError
            When the model gives a score that is no probability.
        OSError
            When the disk is full.
        """
        probability = scorer(self._scoring.model, self._scoring.cache)(lowered)
        values = probability.to_numpy(zero_copy_only=False)
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{self._scoring.version} gives a score that is no probability between 0 and 1.")
        sentiments = np.where(values > 0.5, _POSITIVE, _NEGATIVE).astype(np.int32)
        if self._scoring.band:
            sentiments[np.abs(values - 0.5) < self._scoring.band] = _NEUTRAL
        rows = len(values)
        of_all = columns | {
            "sentiment": pa.DictionaryArray.from_arrays(sentiments, _SENTIMENTS),
            "probability": probability,
            "topic": _same(self._scoring.topic, rows),
            "model_version": _same(self._scoring.version, rows),
            "scored_at": pa.array(np.full(rows, self._scored_at)).view(_MOMENT),
        }
        if self._file is None:
            self._file = FileWriter(self._folder.new_path(), PREDICTIONS)
        self._file.write(of_all)
        positives = int(np.count_nonzero(sentiments == _POSITIVE))
        sample = columns["kafka_timestamp"].view(pa.int64()).to_numpy()[:: max(1, rows // _SAMPLE)] // 1000
        self.written += Written(rows=rows, positives=positives, sent=tuple(sample.tolist()))

    def close(self) -> Written:
        """Complete the file."""
        if self._file is None:
            return self.written
        return self.written + Written((self._file.close(),))

    def abandon(self) -> None:
        """Remove what was written so far."""
        if self._file is not None:
            self._file.abandon()


class FromMessages:
    """Step of a plan: scores plain messages; passes others on as they came, and in the end a line about its file."""

    def __init__(self, scoring: Scoring, folder: Folder) -> None:
        self._scoring, self._folder = scoring, folder

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """From rows of :data:`MESSAGES` to rows of :data:`MESSAGES`."""
        read = reader(self._scoring.cache)
        scored = _Scored(self._scoring, self._folder)
        left = left_bytes = 0
        try:
            for batch in batches:
                # Spark writes all of them, whether or not they are read.
                if not batch.num_rows or left_bytes > _LEFT_BYTES:
                    continue
                found = read(batch.column("value"))
                kept = batch
                if found.count < batch.num_rows:
                    plain = pa.array(found.plain)
                    kept, rest = batch.filter(plain), batch.filter(pc.invert(plain))
                    left, left_bytes = left + rest.num_rows, left_bytes + rest.nbytes
                    yield rest
                if found.count:
                    scored.add(
                        {
                            "tweet_id": found.ids,
                            "author": found.authors,
                            "created_at": found.times,
                            "partition": kept.column("partition"),
                            "offset": kept.column("offset"),
                            "kafka_timestamp": _within(kept.column("timestamp")),
                            "text": found.texts,
                        },
                        found.lowered,
                    )
            written = scored.close() + Written(left=left, gave_up=left_bytes > _LEFT_BYTES)
        except BaseException:
            scored.abandon()
            raise
        yield pa.RecordBatch.from_pylist([{"value": written.to_json().encode()}], schema=_MESSAGES)


class FromTweets:
    """Step of a plan: scores tweets as ``streaming.parsing`` reads them, and gives a line about what was written."""

    def __init__(self, scoring: Scoring, folder: Folder) -> None:
        self._scoring, self._folder = scoring, folder

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """From tweets with ``ml_lower`` and ``reason`` to :data:`WRITTEN`."""
        scored = _Scored(self._scoring, self._folder)
        bad = 0
        try:
            for batch in batches:
                good = batch.filter(batch.column("reason").is_null())
                bad += batch.num_rows - good.num_rows
                if good.num_rows:
                    columns = {
                        name: good.column(name)
                        for name in read_schema(PREDICTIONS).names
                        if name in good.schema.names
                    }
                    scored.add(columns, good.column("ml_lower"))
            written = scored.close() + Written(bad=bad)
        except BaseException:
            scored.abandon()
            raise
        yield pa.RecordBatch.from_pydict({"written": [written.to_json()]}, schema=_WRITTEN)


def _same(word: str, rows: int) -> Any:
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([word]))


def _within(moments: Any) -> Any:
    """What every reader of the table can hold, as ``parsing`` does it."""
    micros = moments.view(pa.int64()).to_numpy()
    return pa.array(np.clip(micros, _FIRST_MICROS, _LAST_MICROS)).view(_MOMENT)
