"""The live figures that ``up`` prints: messages in, scored, lag, share positive. Starts no JVM."""

from dataclasses import dataclass

from sentiment_assets.failures import BrokerError
from sentiment_assets.kafka.client import watermarks
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.settings import Settings
from sentiment_assets.streaming import heartbeat as heartbeats
from sentiment_assets.streaming.status import read_status


@dataclass(frozen=True)
class Figures:
    """What is known at this moment.

    Parameters
    ----------
    messages
        Messages in the topic; None where the broker does not answer.
    scored, dead
        Rows of the tables ``predictions`` and ``dead_letters``; None where they cannot be read.
    lag
        Messages not yet scored.
    share_positive
        Of the running lease's predictions, between 0 and 1.
    stream
        What the stream is doing.
    rows_per_second
        Of the last micro-batch.
    drained
        Whether every message is accounted for.
    """

    messages: int | None
    scored: int | None
    dead: int | None
    lag: int | None
    share_positive: float | None
    stream: str
    rows_per_second: float | None
    drained: bool

    @property
    def text(self) -> str:
        """One line for a person."""
        messages = "?" if self.messages is None else f"{self.messages:,}"
        lag = "?" if self.lag is None else f"{self.lag:,}"
        scored = "?" if self.scored is None else f"{self.scored:,}"
        share = "" if self.share_positive is None else f" · {self.share_positive:.0%} positive"
        rate = "" if not self.rows_per_second else f" · {self.rows_per_second:,.0f} rows/s"
        dead = f" · {self.dead:,} dead letters" if self.dead else ""
        return f"in {messages} · scored {scored} · lag {lag}{share}{rate}{dead} · stream {self.stream}"


def read_figures(settings: Settings, cluster: Cluster) -> Figures:
    """Read the figures; a broker that does not answer leaves gaps, not an error."""
    status = read_status(settings, audit=False)
    messages: int | None
    try:
        ends = watermarks(cluster, settings.topic, timeout=3.0)
        messages = sum(high - low for low, high in ends.values())
    except BrokerError:
        messages = None
    beat = heartbeats.read_heartbeat(settings)
    lag = status["lag"]
    accounted = sum(rows or 0 for rows in (status["predictions"], status["dead_letters"]))
    return Figures(
        messages=messages,
        scored=status["predictions"],
        dead=status["dead_letters"],
        lag=lag,
        share_positive=status["share_positive"],
        stream=beat.state if beat is not None else "not started yet",
        rows_per_second=beat.rows_per_second if beat is not None and beat.running else None,
        drained=lag == 0 and messages is not None and accounted >= messages,
    )
