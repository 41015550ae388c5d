"""What is sent for a labelled row, in which order, and how often."""

import json
from collections import Counter

import pytest

from sentiment_assets.failures import BrokerError, SourceError
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.kafka.replay import created_at, produce, shuffled, tweet_message
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.sources.sentiment140 import LabelledRow


def rows(count: int) -> list[LabelledRow]:
    return [
        LabelledRow(4, str(number), "", "NO_QUERY", "someone", f"text {number}") for number in range(count)
    ]


def test_the_message_has_the_columns_of_a_live_source_and_not_the_label() -> None:
    row = LabelledRow(4, "17", "Mon Apr 06 22:19:45 PDT 2009", "NO_QUERY", "zoë", 'a "quoted" café ☕')
    message = tweet_message(row)
    assert message.key == b"17"
    assert json.loads(message.value or b"") == {
        "id": "17",
        "text": 'a "quoted" café ☕',
        "created_at": "2009-04-07T05:19:45Z",
        "author": "zoë",
        "author_id": None,
        "lang": "en",
        "source": "replay",
    }


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Sun May 31 23:59:59 PDT 2009", "2009-06-01T06:59:59Z"),
        ("Mon May 11 03:17:40 UTC 2009", "2009-05-11T03:17:40Z"),
        ("Thu Jan 01 00:00:00 PST 2009", "2009-01-01T08:00:00Z"),
        ("Mon Feb 30 00:00:00 PDT 2009", None),
        ("Mon Apr 06 22:19:45 XYZ 2009", None),
        ("2009-04-06", None),
        ("", None),
    ],
)
def test_dates_become_utc_or_null(date: str, expected: str | None) -> None:
    assert created_at(date) == expected


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    def order(seed: int) -> list[str]:
        return [row.tweet_id for row in shuffled(rows(50), limit=None, seed=seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1), key=int) == [str(number) for number in range(50)]


def test_a_limit_below_the_number_of_rows_is_a_sample_of_the_whole_file_without_repeats() -> None:
    sample = [int(row.tweet_id) for row in shuffled(rows(1000), limit=100, seed=3)]
    assert len(set(sample)) == 100
    assert min(sample) < 200
    assert max(sample) > 800


def test_a_limit_above_the_number_of_rows_loops_over_them_each_time_in_another_order() -> None:
    order = [row.tweet_id for row in shuffled(rows(20), limit=50, seed=3)]
    assert len(order) == 50
    assert Counter(order[:20]) == Counter(order[20:40]) == Counter(str(number) for number in range(20))
    assert order[:20] != order[20:40]


def test_a_limit_of_nothing_sends_nothing() -> None:
    assert list(shuffled([], limit=0, seed=1)) == []


def test_an_input_without_rows_is_an_error_that_names_it() -> None:
    with pytest.raises(SourceError, match=r"empty\.csv has no usable row"):
        list(shuffled([], limit=5, seed=1, name="empty.csv"))


def test_without_a_broker_nothing_is_sent_and_the_address_is_named() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerError, match=f"Kafka at {nowhere} cannot be reached"):
        produce([], Cluster(nowhere), "tweets")
