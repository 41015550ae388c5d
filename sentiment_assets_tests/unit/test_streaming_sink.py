"""Which batch may be in the table without being recorded, and how the table tells whether it is."""

import pytest
from deltalake import write_deltalake

from sentiment_assets.failures import StreamError
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.audit import has_rows
from sentiment_assets.streaming.positions import Planned, checkpoint, newest_plan
from sentiment_assets.streaming.sink import Sink
from sentiment_assets_tests.peers.predictions import YEAR_0, rows, with_times
from sentiment_assets_tests.unit.test_streaming_mended_checkpoint import plan, scored, write


def test_the_newest_plan_begins_where_the_one_before_ends(settings: Settings) -> None:
    assert newest_plan(settings) is None
    plan(settings, 4, '{"0":5,"1":3}')
    plan(settings, 5, '{"0":9,"1":3,"2":1}')
    assert newest_plan(settings) == Planned(5, {0: 5, 1: 3}, {0: 9, 1: 3, 2: 1})


def test_the_first_batch_begins_where_the_stream_began(settings: Settings) -> None:
    write(checkpoint(settings) / "sources" / "0" / "0", '\0v1\n{"tweets":{"0":7}}')
    plan(settings, 0, '{"0":9}')
    assert newest_plan(settings) == Planned(0, {0: 7}, {0: 9})


def test_a_plan_without_the_one_before_is_refused(settings: Settings) -> None:
    # Taken from the stream's start, it would be taken for a batch that the table has, and skipped.
    plan(settings, 5, '{"0":9}')
    with pytest.raises(StreamError, match="checkpoint of the stream is damaged"):
        newest_plan(settings)


def test_a_table_that_is_ahead_of_the_checkpoint_is_refused(settings: Settings) -> None:
    """As after restoring a backup that was taken while the stream wrote."""
    plan(settings, 4, '{"0":5}')
    plan(settings, 5, '{"0":8}')
    scored(settings, [*range(8)])
    Sink(settings)
    scored(settings, [8, 9])
    with pytest.raises(StreamError, match="ahead of its checkpoint"):
        Sink(settings)


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


def test_times_that_python_cannot_hold_do_not_keep_rows_from_being_found(settings: Settings) -> None:
    made = with_times(rows(0, 9), kafka_timestamp=YEAR_0)
    write_deltalake(str(settings.table("predictions")), made)
    assert has_rows(settings, {0: 4}, {0: 9})
    assert not has_rows(settings, {0: 5}, {0: 9})
