"""Status, positions, audit and latency from files, without Spark."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sentiment_assets.failures import StreamError
from sentiment_assets.lake.log import trim
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.audit import audit
from sentiment_assets.streaming.heartbeat import Phase, of_this_process, write_heartbeat
from sentiment_assets.streaming.latency import visible_latency
from sentiment_assets.streaming.positions import (
    Position,
    checkpoint,
    committed_position,
    dead_letters_are_behind,
    first_offsets,
    read_dead_letter_position,
    write_dead_letter_position,
)
from sentiment_assets.streaming.reset import reset_stream
from sentiment_assets.streaming.status import read_status


def plan(settings: Settings, batch: int, offsets: str, *, commit: bool = True) -> None:
    folder = checkpoint(settings)
    for name in ("offsets", "commits"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "offsets" / str(batch)).write_text(f'v1\n{{"batchWatermarkMs":0}}\n{offsets}')
    if commit:
        (folder / "commits" / str(batch)).write_text('v1\n{"nextBatchWatermarkMs":0}')


def rows(settings: Settings, table: str, offsets: list[int], partition: int = 0) -> None:
    content = {
        "topic": [settings.topic] * len(offsets),
        "partition": pa.array([partition] * len(offsets), pa.int32()),
        "offset": pa.array(offsets, pa.int64()),
        "sentiment": ["positive" if offset % 2 else "negative" for offset in offsets],
    }
    write_deltalake(str(settings.table(table)), pa.table(content), mode="append")


def test_with_nothing_there_the_status_is_zeros_and_nones(settings: Settings) -> None:
    status = read_status(settings)
    assert {name: status[name] for name in ("predictions", "dead_letters", "gaps", "duplicates")} == {
        "predictions": 0,
        "dead_letters": 0,
        "gaps": 0,
        "duplicates": 0,
    }
    assert (status["lag"], status["model"], status["table_version"], status["broker"]) == (
        None,
        None,
        None,
        "not running",
    )
    assert status["stream"]["state"] == "never started"
    json.dumps(status)


def test_a_silent_broker_leaves_the_lag_unknown(settings: Settings) -> None:
    silent = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    status = read_status(silent, audit=False)
    assert (status["broker"], status["lag"], status["partitions"]) == ("silent", None, [])
    assert "127.0.0.1:1 cannot be reached" in status["broker_problem"]


def test_a_stream_that_died_without_a_word_is_called_gone(settings: Settings) -> None:
    beat = of_this_process(Phase.RUNNING, run_id="r1", lease=4, ready=True)
    write_heartbeat(settings, beat)
    assert read_status(settings)["stream"]["state"] == "running"
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    write_heartbeat(settings, replace(beat, pid=child.pid))
    stream = read_status(settings)["stream"]
    assert (stream["state"], stream["detail"]) == ("gone", "was running")
    assert (stream["run_id"], stream["lease"], stream["ready"]) == ("r1", 4, False)


def test_why_a_stream_stopped_stands_beside_its_state(settings: Settings) -> None:
    write_heartbeat(
        settings, of_this_process(Phase.STOPPED, detail="The disk is full (...). Free some disk.")
    )
    stream = read_status(settings)["stream"]
    assert (stream["state"], stream["detail"]) == ("stopped", "The disk is full (...). Free some disk.")


def test_a_damaged_pointer_to_the_model_is_named(settings: Settings) -> None:
    (settings.models / "chosen.json").write_text("{")
    status = read_status(settings)
    assert status["model"] is None
    assert "chosen.json" in status["model_problem"]


def test_a_reset_in_a_home_that_cannot_be_written_names_the_thing_and_the_next_step(
    settings: Settings,
) -> None:
    (settings.run / "stream.lock").mkdir()
    with pytest.raises(StreamError, match=r"stream\.lock cannot be written .*Make SENTIMENT_HOME writable"):
        reset_stream(settings)


def test_the_position_is_that_of_the_newest_batch_with_plan_and_commit(settings: Settings) -> None:
    assert committed_position(settings) == Position()
    plan(settings, 9, '{"tweets":{"0":5}}')
    plan(settings, 10, '{"tweets":{"0":8,"1":2}}')
    plan(settings, 11, '{"tweets":{"0":99}}', commit=False)
    assert committed_position(settings) == Position(10, {0: 8, 1: 2})


@pytest.mark.parametrize("damage", ["", "v1", "v1\n{}\n{", '{"another":{"0":1}}', "v1\n{}\n[]"])
def test_a_damaged_or_foreign_plan_falls_back_to_the_batch_before(settings: Settings, damage: str) -> None:
    plan(settings, 0, '{"tweets":{"0":5}}')
    plan(settings, 1, '{"tweets":{"0":8}}')
    (checkpoint(settings) / "offsets" / "1").write_text(damage)
    assert committed_position(settings) == Position(0, {0: 5})


def test_the_first_offsets_are_read_behind_sparks_zero_byte(settings: Settings) -> None:
    file = checkpoint(settings) / "sources" / "0" / "0"
    assert first_offsets(settings) == {}
    file.parent.mkdir(parents=True)
    file.write_bytes(b'\x00v1\n{"tweets":{"0":7}}')
    assert first_offsets(settings) == {0: 7}


def test_the_position_of_dead_letters_is_believed_only_for_its_own_pair(settings: Settings) -> None:
    assert read_dead_letter_position(settings, "pair") is None
    write_dead_letter_position(settings, "pair", {0: 3})
    assert read_dead_letter_position(settings, "pair") == {0: 3}
    assert read_dead_letter_position(settings, "another") is None


def test_dead_letters_behind_the_committed_position_are_known_without_a_stream(settings: Settings) -> None:
    assert not dead_letters_are_behind(settings)
    plan(settings, 0, '{"tweets":{"0":5,"1":2}}')
    assert dead_letters_are_behind(settings)
    write_dead_letter_position(settings, "pair", {0: 5, 1: 1})
    assert dead_letters_are_behind(settings)
    write_dead_letter_position(settings, "pair", {0: 5, 1: 2})
    assert not dead_letters_are_behind(settings)


def test_the_audit_counts_gaps_duplicates_and_dead_letters_under_way(settings: Settings) -> None:
    rows(settings, "predictions", [5, 6, 6, 9, 10])
    rows(settings, "predictions", [0, 1], partition=1)
    rows(settings, "dead_letters", [7])
    found = audit(settings, first={0: 5}, complete={0: 9, 1: 2}, committed={0: 13, 1: 2})
    assert (found.predictions, found.dead_letters, found.positive) == (7, 1, 3)
    assert (found.gaps, found.duplicates, found.pending) == (1, 1, 2)


def test_an_offset_in_both_tables_is_a_duplicate(settings: Settings) -> None:
    rows(settings, "predictions", [0, 1])
    rows(settings, "dead_letters", [1])
    assert audit(settings, first={}, complete={0: 2}, committed={0: 2}).duplicates == 1


def test_rows_beyond_the_committed_position_are_no_fault(settings: Settings) -> None:
    """Delta has the batch, Spark's own record of it follows a moment later."""
    rows(settings, "predictions", [0, 1, 2, 3])
    found = audit(settings, first={}, complete={0: 2}, committed={0: 2})
    assert (found.gaps, found.duplicates, found.pending) == (0, 0, 0)


def test_without_a_position_missing_offsets_are_pending_not_gaps(settings: Settings) -> None:
    rows(settings, "predictions", [0, 2])
    found = audit(settings, first={}, complete={}, committed={0: 3})
    assert (found.gaps, found.pending) == (0, 1)


def test_latency_is_commit_time_minus_time_of_sending_without_the_first_seconds(tmp_path: Path) -> None:
    table = tmp_path / "table"
    for commit, sent in enumerate(([1000.0, 1001.0], [1010.0, 1012.0])):
        times = pa.array([int(second * 1e6) for second in sent], pa.timestamp("us", "UTC"))
        write_deltalake(str(table), pa.table({"kafka_timestamp": times}), mode="append")
        os.utime(table / "_delta_log" / f"{commit:020d}.json", (1020.0, 1020.0))
    found = visible_latency(table, skip_seconds=5)
    assert (found.rows, found.p50, found.max) == (2, 9.0, 10.0)


def test_latency_counts_rows_whose_commit_was_trimmed(tmp_path: Path) -> None:
    table = tmp_path / "table"
    now = time.time()
    for _ in range(12):
        times = pa.array([int((now - 100) * 1e6)], pa.timestamp("us", "UTC"))
        write_deltalake(str(table), pa.table({"kafka_timestamp": times}), mode="append")
    DeltaTable(str(table)).create_checkpoint()
    assert trim(table, keep=0, least=1) > 5
    found = visible_latency(table)
    assert found.rows == 12
    assert found.p50 == pytest.approx(100, abs=60)
    assert visible_latency(table, since=time.time() + 60).rows == 0


def test_latency_of_an_empty_table_is_unknown(tmp_path: Path) -> None:
    assert visible_latency(tmp_path, skip_seconds=0).p50 is None
