"""Figures from Spark's own progress reports."""

import json
from typing import Any

import pytest

from sentiment_assets.streaming.heartbeat import Phase
from sentiment_assets.streaming.progress import Progress, read_batch


def report(number: int, messages: int, **fields: Any) -> str:
    """A progress report as Spark 4.2 writes it, shortened."""
    end = {"0": 10 * (number + 1), "1": 5 * (number + 1)}
    content: dict[str, Any] = {
        "batchId": number,
        "timestamp": f"2024-05-01T12:00:{number:02d}.500Z",
        "numInputRows": messages,
        "durationMs": {"addBatch": 700, "triggerExecution": 800},
        "sources": [
            {
                "startOffset": {"tweets": {"0": 10 * number, "1": 5 * number}},
                "endOffset": {"tweets": end},
                "latestOffset": {"tweets": {"0": end["0"] + 3, "1": end["1"] + 4}},
                "metrics": {"maxOffsetsBehindLatest": "4"},
            }
        ],
        "observedMetrics": {
            "intake": {
                "messages": messages,
                "bad": 2,
                "median_ms": 1714564799000,
            },
            "scored": {"rows": messages - 2, "positives": 5},
        },
    }
    return json.dumps(content | fields)


def test_a_report_is_read_with_offsets_counts_and_times() -> None:
    batch = read_batch(report(1, 15), "tweets")
    assert (batch.number, batch.messages, batch.bad, batch.rows, batch.positives) == (1, 15, 2, 13, 5)
    assert (batch.start, batch.end) == ({0: 10, 1: 5}, {0: 20, 1: 10})
    assert batch.lag == 7
    assert batch.ended_at == 1714564801.5 + 0.8


@pytest.mark.parametrize(
    "observed",
    [
        {},
        None,
        {"intake": {"messages": None, "bad": None}},
        {"intake": {"messages": 0, "bad": 0, "median_ms": None}, "scored": {"rows": 0, "positives": 0}},
    ],
)
def test_a_batch_that_the_sink_skipped_has_unknown_counts(observed: object) -> None:
    batch = read_batch(report(1, 15, observedMetrics=observed), "tweets")
    assert (batch.bad, batch.rows, batch.median_sent_at) == (None, None, None)


def test_the_first_report_has_no_start() -> None:
    fields = json.loads(report(0, 15))
    fields["sources"][0]["startOffset"] = None
    assert read_batch(json.dumps(fields), "tweets").start == {}


def test_a_lease_adds_up_its_batches() -> None:
    progress = Progress(Phase.RUNNING, "v1")
    for number in range(3):
        progress = progress.add(read_batch(report(number, 15), "tweets"))
    assert (progress.rows, progress.dead, progress.positives, progress.batches) == (39, 6, 15, 3)
    assert progress.share_positive == 15 / 39
    assert progress.seconds == pytest.approx(2.8)
    assert progress.rows_per_second == pytest.approx(18.8)
    assert progress.offsets == {0: 30, 1: 15}


def test_latency_is_the_age_of_the_median_message_when_it_became_visible() -> None:
    progress = Progress(Phase.RUNNING, "v1").add(read_batch(report(0, 15), "tweets"))
    assert progress.visible_latency_seconds == pytest.approx(2.3)


def test_an_idle_report_renews_only_the_lag() -> None:
    working = Progress(Phase.RUNNING, "v1").add(read_batch(report(0, 15), "tweets"))
    idle = working.add(read_batch(report(1, 0), "tweets"))
    assert (idle.rows, idle.batches, idle.seconds) == (working.rows, working.batches, working.seconds)
    assert idle.lag == 7


def test_a_lease_without_a_batch_has_no_share_and_took_no_time() -> None:
    progress = Progress(Phase.RUNNING, "v1")
    assert (progress.share_positive, progress.seconds) == (None, 0.0)
    assert progress.state == "running"
