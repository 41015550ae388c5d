"""Renewing a lease without a gap: the next stream prepares itself while the old one still writes.

Starting Python, the JVM, the model and the warm-up takes half a minute; waiting for a lock takes a tenth of a
second. So the supervisor launches the successor before a lease ends (or when a newer model is chosen), the successor
stands by with everything loaded, and the old stream, once it is due, ends at its next batch boundary.
Does not belong here: when to launch a successor (``supervisor``), the lock itself (``exclusive``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pyspark.sql import SparkSession

from sentiment_assets.failures import BrokerError, ModelError, StreamError
from sentiment_assets.kafka.client import watermarks
from sentiment_assets.kafka.cluster import find_cluster
from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.exclusive import end_hanging_jvm, hold_stream_lock
from sentiment_assets.streaming.heartbeat import Heartbeat, Phase, read_heartbeat
from sentiment_assets.streaming.pulse import Pulse
from sentiment_assets.streaming.serving import Served
from sentiment_assets.streaming.warm_up import warm_up
from sentiment_assets.streaming.writing import serve_stream

APPEAR_SECONDS = 45.0
"""How long a lease that scores with an old model goes on for a successor that has given no heartbeat yet."""
PREPARE_SECONDS = 300.0
"""How long a lease that is due goes on for a successor that prepares itself; on a busy machine that takes minutes."""


class StoodDownError(StreamError):
    """A successor is not wanted any more: the stream before it was stopped, or failed, instead of handing over."""


def is_alive(standby: Heartbeat | None) -> bool:
    """Whether another process prepares itself to go on (its heartbeat is that of ``read_standby``)."""
    return standby is not None and standby.running


def is_ready(standby: Heartbeat | None, version: str) -> bool:
    """Whether another process waits with this model loaded and everything warm."""
    return (
        standby is not None
        and standby.running
        and standby.phase is Phase.STANDBY
        and standby.model_version == version
    )


class Successor:
    """A stream that stands by.

    Parameters
    ----------
    version
        The model to load first; a newer chosen one replaces it while waiting.
    succeeds
        Run of the stream before.
    model_is_fixed
        Keep to ``version`` whatever is chosen.
    should_stop
        A text is the reason not to go on.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        store: ModelStore,
        pulse: Pulse,
        version: str,
        *,
        succeeds: str,
        model_is_fixed: bool,
        should_stop: Callable[[], str | None],
    ) -> None:
        self._spark, self._settings, self._store, self._pulse = spark, settings, store, pulse
        self.version, self._model_is_fixed, self._should_stop = version, model_is_fixed, should_stop
        self._succeeds, self._before = succeeds, read_heartbeat(settings)

    def prepare(self) -> None:
        """Load the model and warm the JVM, beside the stream that runs.

        Raises
        ------
        BrokerError
            When there is no broker.
        ModelError, StreamError
            When the model cannot be loaded, or Spark fails.
        """
        self._pulse.beat()
        self.served = self._load(self.version)
        cluster = find_cluster(self._settings)
        if cluster is None:
            raise BrokerError("No Kafka broker runs.", "Start one with `sentiment-assets kafka start`.")
        self._pulse.enter(Phase.WARMING_UP)
        available = watermarks(cluster, self._settings.topic)
        self._pulse.during(lambda: warm_up(self._spark, self._settings, cluster, self.served, available))
        self._pulse.enter(Phase.STANDBY)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the lock of the stream before, and be the stream while the block runs.

        Raises
        ------
        StoodDownError
            When the stream before was stopped or failed: what follows then is the supervisor's decision.
        """
        with hold_stream_lock(self._spark, self._settings, turn=self._wait):
            last = read_heartbeat(self._settings)
            if last is not None and self._has_ended_since(last) and not last.hands_over:
                raise StoodDownError(f"The stream before ended ({last.detail or 'stopped'}).", _DECIDES)
            self._pulse.take_over()
            yield

    def _wait(self) -> None:
        asked = self._should_stop() or self._pulse.stop_requested()
        if asked:
            raise StoodDownError(f"Asked to stop while standing by ({asked}).", _DECIDES)
        if self._pulse.beat_if_due():
            end_hanging_jvm(read_heartbeat(self._settings))
            if not self._model_is_fixed:
                self._follow_model()

    def _follow_model(self) -> None:
        try:
            chosen = self._store.chosen()
        except ModelError:
            return
        if chosen is not None and chosen != self.version:
            self._pulse.enter(Phase.STARTING)
            self.served = self._load(chosen)
            self.version = chosen
            self._pulse.progress = replace(self._pulse.progress, model_version=chosen)
            self._pulse.enter(Phase.STANDBY)

    def _load(self, version: str) -> Served:
        served = self._pulse.during(lambda: serve_stream(self._spark, self._settings, version))
        self._pulse.progress = replace(self._pulse.progress, scorer=served.scorer)
        return served

    def _has_ended_since(self, last: Heartbeat) -> bool:
        """Whether it is the last word of the stream that this one was to follow, or of a later one."""
        if last.phase is not Phase.STOPPED:
            return False
        if last.run_id == self._succeeds:
            # However early: it may have ended while this process was starting.
            return True
        return self._before is None or (last.run_id, last.phase) != (self._before.run_id, self._before.phase)


_DECIDES = "The sensor stream_supervisor decides what follows."
