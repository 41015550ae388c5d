"""A live source beside the main job: the same ingest as the command, in a thread, with the replay's face.

Belongs here: what ``up`` asks of it. Does not belong here: the ingest (``ingest``).
"""

import threading

from sentiment_assets.ingest import IngestResult, ingest
from sentiment_assets.ingest.sources import jetstream_source, x_source
from sentiment_assets.settings import Settings
from sentiment_assets.sources.live import Source


def live_source(settings: Settings, name: str) -> Source:
    """``x`` (with the rules that X has) or ``jetstream`` (posts in English, which the models know).

    Raises
    ------
    SourceError
        When a setting that the source needs is missing.
    """
    return x_source(settings) if name == "x" else jetstream_source(settings, ["en"])


class LiveIngest(threading.Thread):
    """Brings posts to the topic in the background; its failure is raised by :meth:`check`.

    Parameters
    ----------
    limit
        Posts to take; None: until the end.
    stop
        Ends it; what was not delivered by then waits on disk for the next start.
    """

    def __init__(self, settings: Settings, source: Source, limit: int | None, stop: threading.Event) -> None:
        super().__init__(name=f"ingest {source.name}", daemon=True)
        self._settings = settings
        self._source = source
        self._limit = limit
        self._stop_event = stop
        self._result: IngestResult | None = None
        self._error: Exception | None = None

    @property
    def text(self) -> str:
        """How far it is."""
        seen = self._source.counters
        retried = f", {seen.reconnects:,} reconnects" if seen.reconnects else ""
        return f"{self._source.name} received {seen.received:,}{retried}"

    @property
    def finished(self) -> bool:
        """Whether it has taken as many posts as it was asked for, and Kafka has them all."""
        return self._result is not None and self._result.spooled == 0

    def check(self) -> None:
        """Raise what went wrong in the thread, if anything did."""
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """Until stopped, or the limit is reached."""
        try:
            self._result = ingest(self._settings, self._source, self._stop_event, limit=self._limit)
        except Exception as error:
            self._error = error
