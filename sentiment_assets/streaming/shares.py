"""How many of the recent messages could not be scored. Reads the tables without a JVM.

Does not belong here: the letters themselves (``mending``), what is done about too many (``alerts``, ``defs``).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pyarrow.compute as pc

from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import open_existing, table_exists

WINDOW_SECONDS = 3600.0


class Level(StrEnum):
    """How bad a share of dead letters is, by SENTIMENT_DEAD_LETTER_WARN and SENTIMENT_DEAD_LETTER_FAIL."""

    GOOD = "good"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class RecentMessages:
    """Messages that Kafka took within the window, by what became of them."""

    predictions: int
    dead_letters: int

    @property
    def dead_share(self) -> float:
        """Dead letters among all, 0 when there are none at all."""
        return self.dead_letters / max(1, self.predictions + self.dead_letters)

    def level(self, settings: Settings) -> Level:
        """The worst limit that the share exceeds."""
        if self.dead_share > settings.dead_letter_fail:
            return Level.FAIL
        return Level.WARN if self.dead_share > settings.dead_letter_warn else Level.GOOD


def recent_messages(settings: Settings, *, seconds: float = WINDOW_SECONDS) -> RecentMessages:
    """Count both tables over the last ``seconds`` before the newest message; old files are not read.

    The newest message, not the clock, ends the window: a stream that catches up with yesterday is judged by yesterday.
    """
    newest = [found for name in _NAMES if (found := _newest(settings, name)) is not None]
    if not newest:
        return RecentMessages(0, 0)
    # A producer's clock may be far ahead.
    since = min(max(newest), datetime.now(UTC)) - timedelta(seconds=seconds)
    predictions, dead = (_rows(settings, name, since) for name in _NAMES)
    return RecentMessages(predictions, dead)


_NAMES = (PREDICTIONS.name, DEAD_LETTERS.name)


def _newest(settings: Settings, name: str) -> datetime | None:
    path = settings.table(name)
    if not table_exists(path):
        return None
    table = open_existing(path)
    actions = table.get_add_actions(flatten=True)
    statistics = ("min.topic", "max.topic", "max.kafka_timestamp")
    if not set(statistics) <= set(actions.schema.names):
        return None
    files = [row for row in zip(*(actions[name].to_pylist() for name in statistics), strict=True) if all(row)]
    live = [newest for low, high, newest in files if low == high == settings.topic]
    found: datetime | None = max(live, default=None)
    # A compacted file may hold a backfill too: only its rows tell which message is whose.
    if any(low != high and low <= settings.topic <= high for low, high, _ in files):
        ours = pc.field("topic") == settings.topic
        if found is not None:
            ours &= pc.field("kafka_timestamp") > found
        later = table.to_pyarrow_dataset().to_table(columns=["kafka_timestamp"], filter=ours)
        found = pc.max(later["kafka_timestamp"]).as_py() or found
    return found


def _rows(settings: Settings, name: str, since: datetime) -> int:
    path = settings.table(name)
    if not table_exists(path):
        return 0
    # Rows of a backfill carry another topic: they say nothing about what comes in.
    recent = (pc.field("kafka_timestamp") >= since) & (pc.field("topic") == settings.topic)
    return int(open_existing(path).to_pyarrow_dataset().count_rows(filter=recent))
