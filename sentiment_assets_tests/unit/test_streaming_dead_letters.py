"""When dead letters are looked for: whatever may hold one is read again."""

import pytest

from sentiment_assets.settings import Settings
from sentiment_assets.streaming.dead_letters import DeadLetters
from sentiment_assets.streaming.progress import Batch


def batch(number: int, begin: int, end: int, bad: int | None = 0) -> Batch:
    offsets = ({0: begin}, {0: end}, {0: end})
    return Batch(number, 0.0, 0.1, end - begin, *offsets, bad=bad, rows=end - begin)


@pytest.fixture
def letters(settings: Settings) -> DeadLetters:
    """Nothing of it needs Spark or Kafka until letters are written."""
    found = DeadLetters(None, settings, "127.0.0.1:1", "pair", {0: 0})  # type: ignore[arg-type]
    found.resume({0: 0})
    return found


def test_batches_without_bad_messages_leave_nothing_to_do(letters: DeadLetters) -> None:
    letters.note(batch(0, 0, 10))
    letters.note(batch(1, 10, 20))
    # As Spark reports an idle query.
    letters.note(batch(2, 20, 20, None))
    assert not letters.due


@pytest.mark.parametrize("bad", [1, None])
def test_a_batch_with_bad_messages_or_of_unknown_content_is_due(
    letters: DeadLetters, bad: int | None
) -> None:
    letters.note(batch(0, 0, 10, bad))
    letters.note(batch(1, 10, 20))
    assert letters.due


def test_a_batch_whose_report_was_never_seen_is_due(letters: DeadLetters) -> None:
    letters.note(batch(0, 0, 10))
    letters.note(batch(7, 70, 80))
    assert letters.due
