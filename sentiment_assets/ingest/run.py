"""One run of the ingest: a source, the spool, the delivery, and the figures.

The story: posts are gathered for a moment, kept in the spool with the source's position, and delivered by a
thread of their own. A full spool makes the source wait. A stop ends the source first and then delivers the rest.
"""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from sentiment_assets.ingest.delivery import Delivery
from sentiment_assets.ingest.spool import Spool
from sentiment_assets.kafka.cluster import find_cluster
from sentiment_assets.runtime.files import replace_file
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.settings import Settings
from sentiment_assets.sources.live import Post, Source

logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""How long a stop waits for Kafka; what is not delivered by then is delivered by the next start."""

END_SECONDS = 600.0
"""How long Kafka is waited for when the source has come to its end by itself."""

_GATHER_SECONDS = 0.1
_GATHER_POSTS = 1_000
_REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class IngestResult:
    """The figures of a run, or of a moment of it.

    Attributes
    ----------
    received
        Posts that the source handed on.
    delivered
        Messages that Kafka acknowledged, of this run or left by an earlier one.
    duplicates
        Posts left out because their id had come before.
    skipped, malformed, reconnects
        See :class:`~sentiment_assets.sources.live.Counters`.
    refused
        Messages that Kafka can never take, such as too large ones.
    spooled
        Posts on disk that Kafka has not acknowledged yet.
    seconds
        Since the start.
    state
        What the delivery is doing.
    """

    source: str
    received: int
    delivered: int
    duplicates: int
    skipped: int
    malformed: int
    refused: int
    reconnects: int
    spooled: int
    seconds: float
    state: str

    @property
    def text(self) -> str:
        """One line for a person."""
        faults = {"malformed": self.malformed, "refused": self.refused}
        extra = "".join(f" · {count:,} {name}" for name, count in faults.items() if count)
        return (
            f"{self.source}: received {self.received:,} · delivered {self.delivered:,} · "
            f"waiting on disk {self.spooled:,} · duplicates {self.duplicates:,} · skipped {self.skipped:,} · "
            f"reconnects {self.reconnects:,}{extra} · {self.state}"
        )


def ingest(
    settings: Settings,
    source: Source,
    stop: threading.Event,
    *,
    limit: int | None = None,
    distinct: bool = True,
    patient: bool = False,
    on_progress: Callable[[IngestResult], None] = lambda _figures: None,
) -> IngestResult:
    """Bring the posts of a source to the topic until ``stop`` is set or the source ends.

    A run that was not stopped and whose result has posts in ``spooled`` has not done all of its work: Kafka was not
    there when the source ended, or not soon enough.

    Parameters
    ----------
    stop
        Ends the run cleanly: everything is delivered, or in the spool for the next run.
    limit
        Posts to take from the source; those that came before are not counted.
    distinct
        Remove posts whose id came before, in this run or an earlier one.
    patient
        Behind the end of the source wait for Kafka without end, whether it was there before or not.
    on_progress
        Called every ten seconds; the figures are also in ``SENTIMENT_HOME/run/ingest-SOURCE.json``.

    Raises
    ------
    SourceError
        When the source refuses us.
    SetupError
        When another process ingests from this source in this home, or the spool cannot be used.
    NotAllowedError
        When Kafka refuses our login or lacks our rights.
    """
    settings.prepare()
    with only_one(settings, f"ingest {source.name}"):
        spool = Spool(settings.spool / f"{source.name}.sqlite", settings.spool_megabytes * 1_000_000)
        delivery = Delivery(spool, lambda: find_cluster(settings), settings.topic, settings.topic_partitions)

        def tell(figures: IngestResult) -> None:
            _record(settings, figures)
            on_progress(figures)

        run = _Run(source, spool, delivery, stop, limit, distinct, tell)
        delivery.start()
        try:
            asyncio.run(run.until_stopped())
            if not stop.is_set():
                # The source has given all it has: there is no hurry.
                delivery.finish(None if patient else END_SECONDS, patient_until=stop)
        finally:
            delivery.finish(STOP_SECONDS)
            figures = run.figures()
            _record(settings, figures)
            spool.close()
        if delivery.error is not None:
            raise delivery.error
        return figures


def _record(settings: Settings, figures: IngestResult) -> None:
    """Leave the figures where Prometheus's endpoint finds them; a full disk is no reason to end."""
    content = json.dumps(asdict(figures) | {"at": time.time()})
    with contextlib.suppress(OSError):
        replace_file(settings.run / f"ingest-{figures.source}.json", content, durable=False)


class _LimitReachedError(Exception):
    """As many posts as were asked for have come."""


class _Run:
    """The asynchronous half: everything here happens in one event loop."""

    def __init__(
        self,
        source: Source,
        spool: Spool,
        delivery: Delivery,
        stop: threading.Event,
        limit: int | None,
        distinct: bool,
        on_progress: Callable[[IngestResult], None],
    ) -> None:
        self._source = source
        self._spool = spool
        self._delivery = delivery
        self._stop = stop
        self._left = limit
        self._distinct = distinct
        self._on_progress = on_progress
        self._posts: list[Post] = []
        self._kept: str | None = None
        self._duplicates = 0
        self._waited = False
        self._started = time.monotonic()

    async def until_stopped(self) -> None:
        """Run the source beside the clock that flushes, reports and watches for the stop."""
        tasks = [
            asyncio.create_task(self._source.run(self._put, self._spool.position())),
            asyncio.create_task(self._tick()),
        ]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(_LimitReachedError):
                for task in ended:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._flush()

    def figures(self) -> IngestResult:
        """What has happened so far."""
        seen = self._source.counters
        return IngestResult(
            source=self._source.name,
            received=seen.received,
            delivered=self._delivery.delivered,
            duplicates=self._duplicates,
            skipped=seen.skipped,
            malformed=seen.malformed,
            refused=self._delivery.refused,
            reconnects=seen.reconnects,
            spooled=self._spool.count,
            seconds=round(time.monotonic() - self._started, 3),
            state=self._delivery.text,
        )

    async def _put(self, post: Post) -> None:
        self._posts.append(post)
        if self._left is not None and len(self._posts) >= self._left:
            self._flush()
            if self._left <= 0:
                raise _LimitReachedError
        if len(self._posts) >= _GATHER_POSTS:
            self._flush()
            await asyncio.sleep(0)
        while self._spool.full:
            if not self._waited:
                self._waited = True
                logger.warning("The spool has reached SENTIMENT_SPOOL_MEGABYTES: the source is kept waiting.")
            await asyncio.sleep(_GATHER_SECONDS)

    async def _tick(self) -> None:
        reported = float("-inf")
        while not self._stop.is_set():
            await asyncio.sleep(_GATHER_SECONDS)
            self._flush()
            if self._delivery.error is not None:
                return
            if time.monotonic() - reported >= _REPORT_SECONDS:
                reported = time.monotonic()
                self._on_progress(self.figures())

    def _flush(self) -> None:
        """Keep what was gathered, with the position after it; what cannot be kept stays gathered."""
        position = self._source.position()
        if self._posts or position != self._kept:
            duplicates = self._spool.add(self._posts, position, distinct=self._distinct)
            kept = len(self._posts) - duplicates
            self._duplicates += duplicates
            self._source.counters.kept += kept
            if self._left is not None:
                self._left -= kept
            self._posts.clear()
            self._kept = position
