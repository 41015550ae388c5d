"""The figures of the stream: of one micro-batch as Spark reports it, and of a lease as a caller sees it.

Belongs here: reading Spark's progress, adding up. Does not belong here: waiting for it (``lease``).
"""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sentiment_assets.streaming.heartbeat import Phase
from sentiment_assets.streaming.positions import Offsets, parse_offsets

INTAKE = "intake"
"""Name of the observation over all messages: ``messages``, ``bad`` and ``median_ms``."""
SCORED = "scored"
"""Name of the observation over the scored rows: ``rows``, ``positives``."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch, from the JSON of ``StreamingQueryProgress``.

    Parameters
    ----------
    number
        Spark's batch id.
    started_at, seconds
        When it was planned (seconds since the epoch) and how long it took until its commit.
    messages
        Kafka messages read.
    start, end, latest
        Offsets by partition: where the batch begins and ends, and where the topic ended when it was planned.
    bad, rows, positives
        Messages that cannot be scored, rows written, positive ones among them. ``None`` when nothing was counted:
        the sink skipped a batch that it already had, since a crash came between its commit and Spark's own. ``bad``
        and the median also where Spark wrote the batch beside a rescore.
    median_sent_at
        Median of its messages' Kafka timestamps (of a sample, or their mean where they are few), in seconds since the
        epoch.
    """

    number: int
    started_at: float
    seconds: float
    messages: int
    start: Offsets
    end: Offsets
    latest: Offsets
    bad: int | None = None
    rows: int | None = None
    positives: int | None = None
    median_sent_at: float | None = None

    @property
    def ended_at(self) -> float:
        """When it was committed."""
        return self.started_at + self.seconds

    @property
    def lag(self) -> int:
        """Messages of the topic behind the end of the batch."""
        return sum(max(0, high - self.end.get(partition, 0)) for partition, high in self.latest.items())


def read_batch(progress: str, topic: str) -> Batch:
    """Read one progress report of the predictions query.

    Parameters
    ----------
    progress
        JSON of a ``StreamingQueryProgress``.
    topic
        The Kafka topic, the query's only source.
    """
    report = json.loads(progress)
    source = report["sources"][0]
    observed: dict[str, dict[str, Any]] = report.get("observedMetrics") or {}
    intake, scored = observed.get(INTAKE) or {}, observed.get(SCORED) or {}
    start, end = _offsets(source["startOffset"], topic), _offsets(source["endOffset"], topic)
    if end != start and not intake.get("messages"):
        # A batch that the sink skips is reported with zeros, as if it held no message.
        intake, scored = {}, {}
    return Batch(
        number=report["batchId"],
        started_at=datetime.fromisoformat(report["timestamp"]).timestamp(),
        seconds=report["durationMs"].get("triggerExecution", 0) / 1000,
        messages=report["numInputRows"],
        start=start,
        end=end,
        latest=_offsets(source["latestOffset"], topic),
        bad=intake.get("bad"),
        rows=scored.get("rows"),
        positives=scored.get("positives"),
        median_sent_at=_seconds(intake.get("median_ms")),
    )


@dataclass(frozen=True)
class Progress:
    """A lease so far; what a caller shows and the heartbeat records.

    Parameters
    ----------
    phase, detail
        What the stream does now; for one that ends or has ended also why.
    scorer
        What scores, compiled tables or the pipeline, and why; empty while it is being loaded.
    rows, dead, positives, batches
        Totals of this lease: predictions, messages that could not be scored, positive predictions, batches
        with data.
    lag
        Messages not yet scored when the last batch was planned; ``None`` before the first.
    offsets
        Next offset to score by partition.
    rows_per_second, last_batch_seconds
        Of the last batch with data.
    visible_latency_seconds
        Age of the last batch's median message when the batch became visible.
    first_batch_at, last_commit_at
        Seconds since the epoch.
    """

    phase: Phase
    model_version: str
    detail: str = ""
    scorer: str = ""
    ready: bool = False
    rows: int = 0
    dead: int = 0
    positives: int = 0
    batches: int = 0
    lag: int | None = None
    offsets: Offsets = field(default_factory=dict)
    rows_per_second: float | None = None
    last_batch_seconds: float | None = None
    visible_latency_seconds: float | None = None
    first_batch_at: float | None = None
    last_commit_at: float | None = None

    @property
    def state(self) -> str:
        """What the stream does now, in words."""
        return f"{self.phase}: {self.detail}" if self.detail else str(self.phase)

    @property
    def share_positive(self) -> float | None:
        """Positive predictions among all of this lease."""
        return self.positives / self.rows if self.rows else None

    @property
    def seconds(self) -> float:
        """From the first batch's start to the last commit."""
        if self.first_batch_at is None or self.last_commit_at is None:
            return 0.0
        return max(0.0, self.last_commit_at - self.first_batch_at)

    def add(self, batch: Batch) -> "Progress":
        """The lease after one more batch; one without data only renews the lag."""
        if batch.messages == 0:
            return replace(self, lag=batch.lag, offsets=batch.end or self.offsets)
        return replace(
            self,
            rows=self.rows + (batch.rows or 0),
            dead=self.dead + (batch.bad or 0),
            positives=self.positives + (batch.positives or 0),
            batches=self.batches + 1,
            lag=batch.lag,
            offsets=batch.end,
            rows_per_second=round(batch.messages / batch.seconds, 1) if batch.seconds else None,
            last_batch_seconds=batch.seconds,
            visible_latency_seconds=_age(batch.median_sent_at, batch.ended_at),
            first_batch_at=batch.started_at if self.first_batch_at is None else self.first_batch_at,
            last_commit_at=batch.ended_at,
        )


def _offsets(value: object, topic: str) -> Offsets:
    """Offsets of a progress report; none where Spark reports none."""
    return parse_offsets(json.dumps(value), topic) if isinstance(value, dict) and topic in value else {}


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _age(sent_at: float | None, visible_at: float) -> float | None:
    return None if sent_at is None else round(max(0.0, visible_at - sent_at), 3)
