"""Which batch may be in the table without being recorded, and how the table tells whether it is."""

import pytest

from sentiment_assets.settings import Settings
from sentiment_assets.streaming.audit import has_rows
from sentiment_assets.streaming.positions import Planned, checkpoint, unrecorded_batch
from sentiment_assets_tests.unit.test_streaming_mended_checkpoint import commit, plan, scored, write


def test_only_a_batch_that_was_planned_and_not_recorded_may_be_there(settings: Settings) -> None:
    assert unrecorded_batch(settings) is None
    plan(settings, 4, '{"0":5,"1":3}')
    commit(settings, 4)
    assert unrecorded_batch(settings) is None
    plan(settings, 5, '{"0":9,"1":3,"2":1}')
    assert unrecorded_batch(settings) == Planned(5, {0: 5, 1: 3}, {0: 9, 1: 3, 2: 1})


def test_the_first_batch_begins_where_the_stream_began(settings: Settings) -> None:
    write(checkpoint(settings) / "sources" / "0" / "0", '\0v1\n{"tweets":{"0":7}}')
    plan(settings, 0, '{"0":9}')
    assert unrecorded_batch(settings) == Planned(0, {0: 7}, {0: 9})


def test_a_plan_without_the_one_before_says_nothing(settings: Settings) -> None:
    # Spark refuses to start; "the table has rows before its end" would skip a batch that it does not have.
    plan(settings, 5, '{"0":9}')
    assert unrecorded_batch(settings) is None


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        ({0: 5}, {0: 8}, True),
        ({0: 7}, {0: 9}, True),
        ({0: 8}, {0: 9}, False),
        ({0: 8}, {0: 8}, False),
        ({}, {0: 1}, True),
        ({0: 8}, {0: 12, 1: 5}, False),
        ({0: 8}, {0: 200}, False),
    ],
    ids=[
        "all of it",
        "its first row alone",
        "nothing",
        "no message",
        "new partition",
        "another partition",
        "another topic",
    ],
)
def test_rows_of_the_topic_between_offsets_are_found(
    settings: Settings, start: dict[int, int], end: dict[int, int], *, found: bool
) -> None:
    assert not has_rows(settings, start, end)
    scored(settings, [*range(5)])
    scored(settings, [*range(5, 8)])
    scored(settings, [99], topic="backfill:abc")
    assert has_rows(settings, start, end) == found
