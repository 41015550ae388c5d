"""A damaged newest file of the checkpoint is derived from the table; anything else is left to a person."""

import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from sentiment_assets.settings import Settings
from sentiment_assets.streaming.mended_checkpoint import mend_checkpoint
from sentiment_assets.streaming.positions import Position, checkpoint, committed_position

COMMIT = 'v1\n{"nextBatchWatermarkMs":0}'
DAMAGES = ["", "v1", "\0" * 40, "v1\n{", COMMIT[:-1]]


def write(file: Path, text: str) -> None:
    """As Hadoop does: the file and its checksum."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    content = text.encode()
    sums = [zlib.crc32(content[at : at + 512]) for at in range(0, len(content), 512)]
    file.with_name(f".{file.name}.crc").write_bytes(struct.pack(f">4sI{len(sums)}I", b"crc\0", 512, *sums))


def plan(settings: Settings, batch: int, ends: str) -> Path:
    file = checkpoint(settings) / "offsets" / str(batch)
    write(file, f'v1\n{{"batchWatermarkMs":0,"conf":{{"a":"{"x" * 600}"}}}}\n{{"tweets":{ends}}}')
    return file


def commit(settings: Settings, batch: int) -> Path:
    file = checkpoint(settings) / "commits" / str(batch)
    write(file, COMMIT)
    return file


def scored(settings: Settings, offsets: list[int], topic: str = "tweets") -> None:
    count = len(offsets)
    rows = {"topic": [topic] * count, "partition": pa.array([0] * count, pa.int32()), "offset": offsets}
    write_deltalake(str(settings.table("predictions")), pa.table(rows), mode="append")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_plan_ends_behind_what_the_table_has_scored(settings: Settings, damage: str) -> None:
    scored(settings, [*range(8)])
    scored(settings, [99], topic="backfill:abc")
    plan(settings, 4, '{"0":5,"1":3}')
    newest = plan(settings, 5, '{"0":9,"1":3}')
    newest.write_text(damage)
    assert mend_checkpoint(settings) == ["offsets/5"]
    commit(settings, 5)
    assert committed_position(settings) == Position(5, {0: 8, 1: 3})
    assert not newest.with_name(".5.crc").exists()
    assert newest.read_text().count("\n") == 2


def test_a_flipped_bit_that_still_is_json_is_found_by_the_checksum(settings: Settings) -> None:
    scored(settings, [*range(8)])
    plan(settings, 4, '{"0":5}')
    newest = plan(settings, 5, '{"0":8}')
    newest.write_text(newest.read_text().replace('"0":8', '"0":9'))
    assert mend_checkpoint(settings) == ["offsets/5"]
    assert newest.read_text().endswith('{"tweets":{"0":8}}')


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_commit_is_the_same_text_as_the_one_before(settings: Settings, damage: str) -> None:
    commit(settings, 4)
    newest = commit(settings, 5)
    newest.write_text(damage)
    assert mend_checkpoint(settings) == ["commits/5"]
    assert newest.read_text() == COMMIT


def test_a_whole_checkpoint_and_an_empty_one_are_left_alone(settings: Settings) -> None:
    assert mend_checkpoint(settings) == []
    scored(settings, [1])
    for batch in (0, 1):
        plan(settings, batch, '{"0":5}')
        commit(settings, batch)
    assert mend_checkpoint(settings) == []


def test_without_a_whole_file_before_it_nothing_is_made_up(settings: Settings) -> None:
    scored(settings, [1])
    for batch in (0, 1):
        plan(settings, batch, '{"0":5}').write_text("")
    assert mend_checkpoint(settings) == []
