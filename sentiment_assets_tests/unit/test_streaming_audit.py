"""The audit counts what a plain set would: every offset once, those of others not at all."""

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sentiment_assets.settings import Settings
from sentiment_assets.streaming.audit import Audit, audit, highest_offsets


def written(settings: Settings, name: str, rows: list[tuple[str, int, int]], files: int) -> None:
    for number in range(files):
        part = rows[number::files]
        columns = {
            "topic": pa.array([topic for topic, _, _ in part], pa.string()),
            "partition": pa.array([partition for _, partition, _ in part], pa.int32()),
            "offset": pa.array([offset for _, _, offset in part], pa.int64()),
            "sentiment": pa.array(["positive" if offset % 3 else "negative" for _, _, offset in part]),
        }
        write_deltalake(str(settings.table(name)), pa.table(columns), mode="append")


def counted(
    scored: list[tuple[str, int, int]],
    dead: list[tuple[str, int, int]],
    first: dict[int, int],
    complete: dict[int, int],
    committed: dict[int, int],
) -> Audit:
    """The same by sets."""
    times = Counter((partition, offset) for topic, partition, offset in scored + dead if topic == "tweets")
    gaps = pending = 0
    for partition, end in committed.items():
        begin = first.get(partition, 0)
        for offset in range(begin, end):
            if (partition, offset) not in times:
                settled = offset < complete.get(partition, begin)
                gaps, pending = gaps + settled, pending + (not settled)
    positive = sum(1 for _, _, offset in scored if offset % 3)
    return Audit(len(scored), len(dead), gaps, sum(times.values()) - len(times), pending, positive)


@pytest.mark.parametrize("seed", range(12))
def test_any_tables_are_counted_as_sets_would(settings: Settings, seed: int) -> None:
    chance = random.Random(seed)

    def some(count: int) -> list[tuple[str, int, int]]:
        topics = ["tweets", "tweets", "tweets", "backfill:abc"]
        return [(chance.choice(topics), chance.randrange(3), chance.randrange(5, 90)) for _ in range(count)]

    scored, dead = some(chance.randrange(150)), some(chance.randrange(20))
    first = {part: chance.randrange(20) for part in range(2)}
    committed = {part: chance.randrange(10, 95) for part in range(3)}
    complete = {part: chance.randrange(95) for part in range(2)}
    written(settings, "predictions", scored, files=chance.randrange(1, 5))
    written(settings, "dead_letters", dead, files=1)
    expected = counted(scored, dead, first, complete, committed)
    assert audit(settings, first=first, complete=complete, committed=committed) == expected
    highest = {
        partition: max(offset for topic, part, offset in scored if (topic, part) == ("tweets", partition))
        for partition in {part for topic, part, _ in scored if topic == "tweets"}
    }
    assert highest_offsets(settings) == highest


def test_without_tables_all_is_missing_and_nothing_is_counted(settings: Settings) -> None:
    found = audit(settings, first={}, complete={0: 3}, committed={0: 5})
    assert found == Audit(0, 0, 3, 0, 2, 0)


def test_files_that_were_read_once_are_remembered_and_those_that_are_gone_forgotten(
    settings: Settings,
) -> None:
    scored = [("tweets", 0, offset) for offset in range(100) if offset != 50]
    written(settings, "predictions", scored, files=4)
    first = audit(settings, first={}, complete={0: 100}, committed={0: 100})
    assert first == Audit(99, 0, 1, 0, 0, 65)
    table = DeltaTable(str(settings.table("predictions")))
    for file in table.file_uris():
        Path(file).rename(settings.root / Path(file).name)
    # Without the files: nothing but what is remembered.
    assert audit(settings, first={}, complete={0: 100}, committed={0: 100}) == first
    for file in table.file_uris():
        (settings.root / Path(file).name).rename(file)
    table.optimize.compact()
    written(settings, "predictions", [("tweets", 0, 50), ("tweets", 0, 51), ("another", 0, 1)], files=1)
    expected = Audit(102, 0, 0, 1, 0, 67)
    assert audit(settings, first={}, complete={0: 100}, committed={0: 100}) == expected
    for damage in (b"", b"PK", b"nonsense"):
        (settings.run / "audited-predictions.npz").write_bytes(damage)
        assert audit(settings, first={}, complete={0: 100}, committed={0: 100}) == expected
    other = settings.model_copy(update={"topic": "another"})
    assert audit(other, first={}, complete={0: 2}, committed={0: 2}) == Audit(102, 0, 1, 0, 0, 67)
    assert audit(settings, first={}, complete={0: 100}, committed={0: 100}) == expected
