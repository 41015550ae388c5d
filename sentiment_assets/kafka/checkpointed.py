"""Where the embedded broker's topic ended, read from Kafka's own checkpoint files while the broker is down.

Belongs here: the two files in its data folder. Does not belong here: questions to a running broker (``client``).
"""

from pathlib import Path

from sentiment_assets.settings import Settings


def checkpointed_watermarks(settings: Settings) -> dict[int, tuple[int, int]]:
    """First and next offset by partition of ``settings.topic`` when the embedded broker last noted them.

    Kafka writes them every few seconds and when it stops in order, so after a crash the newest messages may be
    missing from the figure until the broker runs again. Empty when there is no such topic.
    """
    data = settings.kafka / "data"
    high = _read(data / "replication-offset-checkpoint", settings.topic)
    low = _read(data / "log-start-offset-checkpoint", settings.topic)
    return {partition: (low.get(partition, 0), offset) for partition, offset in sorted(high.items())}


def _read(path: Path, topic: str) -> dict[int, int]:
    """Lines ``topic partition offset`` after two lines of header (Kafka's ``CheckpointFile``)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[2:]
    except OSError:
        return {}
    fields = [line.split(" ") for line in lines]
    return {int(part[1]): int(part[2]) for part in fields if len(part) == 3 and part[0] == topic}
