"""Kafka as a Dagster resource: a few questions with hard time-outs, fit for a sensor tick."""

from sentiment_assets.failures import BrokerError
from sentiment_assets.kafka.client import watermarks
from sentiment_assets.kafka.cluster import find_cluster
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.positions import committed_offsets, dead_letters_are_behind, lag_of

Ends = dict[int, tuple[int, int]]


class KafkaResource:
    """Answers where the topic ends and how far the stream is behind.

    Parameters
    ----------
    settings
        Installation settings; name the cluster and the topic.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def topic(self) -> str:
        """Name of the topic of tweets."""
        return self._settings.topic

    def ends(self) -> Ends | None:
        """First and next offset by partition; None where the broker does not answer within seconds."""
        cluster = find_cluster(self._settings)
        if cluster is None:
            return None
        try:
            return watermarks(cluster, self._settings.topic, timeout=3.0)
        except BrokerError:
            return None

    def lag_of(self, ends: Ends) -> dict[int, int]:
        """Messages not yet scored, by partition."""
        committed = committed_offsets(self._settings)
        return {
            partition: lag_of(low, high, committed.get(partition)) for partition, (low, high) in ends.items()
        }

    def lag(self) -> int | None:
        """Messages not yet scored over all partitions; 1: only dead letters are due. None: the broker is silent."""
        ends = self.ends()
        if ends is None:
            return None
        # Of a topic that was deleted, the same is true as of one that has become shorter.
        lag = sum(self.lag_of(ends).values()) if ends else min(1, len(committed_offsets(self._settings)))
        # Dead letters of a stream that was killed behind its last batch: no message has to come for them to be written.
        return lag or int(dead_letters_are_behind(self._settings))
