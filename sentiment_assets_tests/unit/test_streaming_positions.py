"""How far a position is from a topic's end, also when that cannot be."""

import pytest

from sentiment_assets.streaming.positions import lag_of


@pytest.mark.parametrize(
    ("low", "high", "committed", "lag"),
    [
        (0, 10, 4, 6),
        (0, 10, 10, 0),
        (3, 10, None, 7),
        # Retention took what was not scored.
        (8, 10, 4, 2),
        # Another topic of that name, or one that lost its end: never "nothing to do".
        (0, 5, 10, 5),
        (0, 0, 10, 1),
    ],
)
def test_a_topic_that_ends_before_the_position_is_never_taken_for_scored(
    low: int, high: int, committed: int | None, lag: int
) -> None:
    assert lag_of(low, high, committed) == lag
