"""A live source beside the main job: the same ingest as the command, in a thread, with the replay's face.

Belongs here: what ``up`` asks of it. Does not belong here: the ingest (``ingest``).
"""

import logging
import threading

from sentiment_assets.failures import disk_is_full
from sentiment_assets.ingest import IngestResult, ingest
from sentiment_assets.ingest.sources import jetstream_source, x_source
from sentiment_assets.settings import Settings
from sentiment_assets.sources.live import Source

logger = logging.getLogger(__name__)

_FULL_SECONDS = 5.0


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

    A full disk ends nothing: when there is room, the ingest goes on behind what was kept. Behind the last post a
    broker that is away is waited for without end, for nobody else delivers what is left.

    Parameters
    ----------
    name
        Of the source; see :func:`live_source`.
    limit
        Posts to take; None: until the end.
    stop
        Ends it; what was not delivered by then waits on disk for the next start.
    """

    def __init__(self, settings: Settings, name: str, limit: int | None, stop: threading.Event) -> None:
        super().__init__(name=f"ingest {name}", daemon=True)
        self._settings = settings
        self._sources = [live_source(settings, name)]
        self._left = limit
        self._stop_event = stop
        self._result: IngestResult | None = None
        self._error: Exception | None = None

    @property
    def text(self) -> str:
        """How far it is."""
        reconnects = sum(source.counters.reconnects for source in self._sources)
        retried = f", {reconnects:,} reconnects" if reconnects else ""
        return f"{self._sources[0].name} received {self._received:,}{retried}"

    @property
    def finished(self) -> bool:
        """Whether it has taken as many posts as it was asked for, and Kafka has them all."""
        return self._result is not None and self._result.spooled == 0

    @property
    def _received(self) -> int:
        return sum(source.counters.received for source in self._sources)

    def check(self) -> None:
        """Raise what went wrong in the thread, if anything did."""
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """Until stopped, or the limit is reached."""
        while True:
            source = self._sources[-1]
            kept = sum(source.counters.kept for source in self._sources)
            left = None if self._left is None else max(1, self._left - kept)
            try:
                self._result = ingest(self._settings, source, self._stop_event, limit=left, patient=True)
            except Exception as error:
                if not disk_is_full(error):
                    self._error = error
                    return
                logger.warning("%s", error)
            else:
                return
            if self._stop_event.wait(_FULL_SECONDS):
                return
            # What the last one had handed on and could not be kept, a new one begins before.
            self._sources.append(live_source(self._settings, source.name))
