"""Dead letters in a person's hands: listed, written to a file that an editor can mend, put back through the topic.

A letter that is replayed carries its old position as a Kafka header. Which letters are back is learnt from the topic
itself: before anything is sent the ends of the partitions are noted, afterwards (or by the next call, when this one
was killed) the headers behind them are read. So a letter goes back once, whatever happens in between.
Does not belong here: putting messages aside (``dead_letters``).
"""

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow.compute as pc
from confluent_kafka import Consumer, KafkaError, TopicPartition

from sentiment_assets.failures import BrokerError, SourceError
from sentiment_assets.kafka.client import quiet, watermarks
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.kafka.replay import Message, produce
from sentiment_assets.runtime.files import replace_file
from sentiment_assets.schemas import DEAD_LETTERS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import open_existing, table_exists

HEADER = "sentiment-replay-of"
_READ_SECONDS = 30.0
_COLUMNS = ["topic", "partition", "offset", "kafka_timestamp", "reason", "key", "value"]


@dataclass(frozen=True)
class DeadLetter:
    """One row of ``dead_letters``; key and value as Kafka had them."""

    topic: str
    partition: int
    offset: int
    kafka_timestamp: datetime
    reason: str
    key: bytes | None
    value: bytes | None

    @property
    def place(self) -> str:
        """``topic/partition/offset``, its name for good."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True)
class Replayed:
    """What became of a replay.

    Parameters
    ----------
    sent
        Letters that are in the topic now and were not before.
    already
        Letters that an earlier replay had put back.
    unchanged
        Letters of the file that nobody mended; they stay where they are.
    refused
        Letters that Kafka did not take (too large).
    """

    sent: int
    already: int
    unchanged: int
    refused: int


@dataclass
class _Ledger:
    """What is known to be back in the topic, and from where on to look for what is not known."""

    done: dict[str, str] = field(default_factory=dict)
    since: dict[str, int] | None = None


def count_by_reason(settings: Settings) -> dict[str, int]:
    """Dead letters by reason, the most frequent first; starts no JVM."""
    counts: Counter[str] = Counter()
    for batch in _batches(settings, ["reason"]):
        counts.update(batch.column("reason").to_pylist())
    return dict(counts.most_common())


def read_letters(
    settings: Settings, *, reason: str | None = None, limit: int | None = None
) -> Iterator[DeadLetter]:
    """Dead letters in the order of the table's files, all or those of one reason; starts no JVM."""
    left = limit
    for batch in _batches(settings, _COLUMNS):
        chosen = batch if reason is None else batch.filter(pc.equal(batch.column("reason"), reason))
        for row in chosen.to_pylist():
            if left is not None:
                if left <= 0:
                    return
                left -= 1
            yield DeadLetter(**row)


def replayed_places(settings: Settings) -> dict[str, str]:
    """Letters that are back in the topic -> when that was noted (ISO 8601)."""
    return _read_ledger(settings).done


def as_line(letter: DeadLetter) -> dict[str, Any]:
    """A letter as an object that an editor can mend.

    ``value`` is the JSON object itself where the message is one; text where it is UTF-8; else base64. What it is
    stands in ``encoding``.
    """
    encoding, value = _readable(letter.value)
    _, key = _readable(letter.key)
    return {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "received": letter.kafka_timestamp.isoformat(),
        "reason": letter.reason,
        "encoding": encoding,
        "key": key,
        "value": value,
    }


def export(settings: Settings, file: Path, *, reason: str | None = None) -> int:
    """Write letters to ``file``, one JSON object a line; returns how many.

    Raises
    ------
    SourceError
        When the file is there already (it may hold somebody's work) or cannot be written.
    """
    count = 0
    try:
        with file.open("x", encoding="ascii") as out:
            for letter in read_letters(settings, reason=reason):
                out.write(json.dumps(as_line(letter)) + "\n")
                count += 1
    except FileExistsError as error:
        raise SourceError(
            f"The file {file} exists and may hold mended letters.", "Name another file, or remove it."
        ) from error
    except OSError as error:
        raise SourceError(
            f"The file {file} cannot be written ({error.strerror}).", "Name another file."
        ) from error
    return count


def replay(
    settings: Settings,
    cluster: Cluster,
    file: Path | None,
    *,
    reason: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Replayed:
    """Put letters back into the topic: those of a mended file, else all as they are (after a parser was mended).

    Raises
    ------
    SourceError
        When the file cannot be read, or a line of it names no letter.
    BrokerError
        When the broker is away; what was sent till then is known to the next call.
    """
    ledger = _settle(settings, cluster, _read_ledger(settings))
    # A file says itself which letters it is about.
    found = read_letters(settings, reason=reason if file is None else None)
    letters = {letter.place: letter for letter in found}
    chosen: dict[str, Message] = {}
    already = unchanged = 0
    for place, message, mended in _wanted(letters, file):
        if place in ledger.done:
            already += 1
        elif not mended:
            unchanged += 1
        else:
            chosen[place] = message
    before = len(ledger.done)
    if chosen:
        ends = watermarks(cluster, settings.topic)
        ledger.since = {str(partition): high for partition, (_, high) in ends.items()}
        _write_ledger(settings, ledger)
        produce(
            [message._replace(headers=((HEADER, place.encode()),)) for place, message in chosen.items()],
            cluster,
            settings.topic,
            on_progress=on_progress,
        )
        ledger = _settle(settings, cluster, ledger)
    sent = len(ledger.done) - before
    return Replayed(sent, already, unchanged, len(chosen) - sent)


def _wanted(letters: dict[str, DeadLetter], file: Path | None) -> Iterator[tuple[str, Message, bool]]:
    """Place, message, and whether it is to be sent although nothing is known of it."""
    if file is None:
        for place, letter in letters.items():
            yield place, Message(letter.key, letter.value), True
        return
    for number, line in enumerate(_lines(file), start=1):
        try:
            fields = json.loads(line)
            place = f"{fields['topic']}/{fields['partition']}/{fields['offset']}"
            letter, value = letters[place], _bytes(fields["value"], fields.get("encoding"))
        except (ValueError, TypeError, KeyError) as error:
            raise SourceError(
                f"Line {number} of {file} is no dead letter of this home ({type(error).__name__}: {error}).",
                "Keep topic, partition and offset as `dead-letters list --out` wrote them; mend `value` alone.",
            ) from error
        yield place, Message(letter.key, value), fields["value"] != as_line(letter)["value"]


def _lines(file: Path) -> Iterable[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"The file {file} cannot be read ({error}).", "Name a file of `dead-letters list --out`."
        ) from error


def _readable(value: bytes | None) -> tuple[str, Any]:
    if value is None:
        return "null", None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(value).decode()
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "text", text
    return ("json", found) if isinstance(found, dict) else ("text", text)


def _refuse(name: str) -> None:
    raise ValueError(name)


def _bytes(value: Any, encoding: str | None) -> bytes | None:
    """The message of a line; an object is JSON whatever the message was before."""
    if value is None:
        return None
    if isinstance(value, str):
        return base64.b64decode(value, validate=True) if encoding == "base64" else value.encode()
    return json.dumps(value).encode()


def _settle(settings: Settings, cluster: Cluster, ledger: _Ledger) -> _Ledger:
    """Read from the topic which letters are back since the ends were noted."""
    if ledger.since is None:
        return ledger
    ends = watermarks(cluster, settings.topic)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    since = {int(partition): offset for partition, offset in ledger.since.items()}
    for place in _headers(cluster, settings.topic, since, ends):
        ledger.done.setdefault(place, now)
    ledger.since = None
    _write_ledger(settings, ledger)
    return ledger


def _headers(
    cluster: Cluster, topic: str, since: dict[int, int], ends: dict[int, tuple[int, int]]
) -> Iterator[str]:
    spans = {part: (max(low, since.get(part, low)), high) for part, (low, high) in ends.items()}
    left = {part: high for part, (begin, high) in spans.items() if begin < high}
    if not left:
        return
    consumer = Consumer(
        quiet(cluster)
        | {"group.id": "sentiment-assets-mending", "enable.auto.commit": False, "enable.partition.eof": True}
        # Behind a transaction of somebody else that hangs, our own letters would not be seen.
        | {"isolation.level": "read_uncommitted"}
    )
    try:
        consumer.assign([TopicPartition(topic, part, spans[part][0]) for part in left])
        deadline = time.monotonic() + _READ_SECONDS
        while left:
            message = consumer.poll(1.0)
            if message is None:
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"Kafka at {cluster} did not give back what was replayed within {_READ_SECONDS:g} s.",
                        "Run the command again: it finds out first what is in the topic.",
                    )
                continue
            deadline = time.monotonic() + _READ_SECONDS
            fault, part = message.error(), message.partition()
            if fault is not None:
                if fault.code() == KafkaError._PARTITION_EOF and part is not None:
                    left.pop(part, None)
                continue
            headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
            for name, value in headers:
                if name == HEADER and value is not None:
                    yield value.decode()
            if part is not None and (message.offset() or 0) + 1 >= left.get(part, 0):
                left.pop(part, None)
    finally:
        consumer.close()


def _batches(settings: Settings, columns: list[str]) -> Iterator[Any]:
    table = settings.table(DEAD_LETTERS.name)
    if table_exists(table):
        yield from open_existing(table).to_pyarrow_dataset().to_batches(columns=columns)


def _file(settings: Settings) -> Path:
    # Beside the position of the dead letters: a reset of the stream forgets both.
    return settings.checkpoints / "dead_letters" / "replayed.json"


def _read_ledger(settings: Settings) -> _Ledger:
    try:
        return _Ledger(**json.loads(_file(settings).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _Ledger()
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(
            f"{_file(settings)} cannot be read ({error}): it says which dead letters are back in the topic.",
            "Restore it from a backup, or remove it when you know that none was replayed.",
        ) from error


def _write_ledger(settings: Settings, ledger: _Ledger) -> None:
    _file(settings).parent.mkdir(parents=True, exist_ok=True)
    replace_file(_file(settings), json.dumps({"done": ledger.done, "since": ledger.since}))
