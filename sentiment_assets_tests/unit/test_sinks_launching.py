"""When a sink's next run is launched, state by state."""

import pytest

from sentiment_assets.sinks.launching import PastRun, nothing_to_do, reason_to_wait

NOW = 1_000_000.0


def run(ended_seconds_ago: float | None = 5.0, **state: bool) -> PastRun:
    ended_at = None if ended_seconds_ago is None else NOW - ended_seconds_ago
    return PastRun("0123456789", finished=ended_at is not None, ended_at=ended_at, **state)


def test_a_sink_that_is_behind_is_followed() -> None:
    assert reason_to_wait(NOW, [], None) is None
    assert reason_to_wait(NOW, [run()], None) is None


@pytest.mark.parametrize(("lag", "said"), [(None, "no table"), (0, "newest version")])
def test_nothing_to_do_launches_nothing(lag: int | None, said: str) -> None:
    assert said in str(nothing_to_do(lag))


def test_a_commit_that_the_sink_lacks_is_something_to_do() -> None:
    assert nothing_to_do(1) is None


def test_one_run_at_a_time() -> None:
    assert reason_to_wait(NOW, [run(None)], None) == "run 01234567 follows"


def test_a_cancel_is_respected_until_the_sensor_is_toggled() -> None:
    cancelled = [run(60, canceled=True)]
    assert "cancelled by a person" in str(reason_to_wait(NOW, cancelled, NOW - 600))
    assert reason_to_wait(NOW, cancelled, NOW - 10) is None


@pytest.mark.parametrize(("failures", "pause"), [(1, 30), (2, 60), (3, 120), (6, 900), (10, 900)])
def test_each_failure_in_a_row_doubles_the_pause(failures: int, pause: float) -> None:
    def runs(age: float) -> list[PastRun]:
        return [run(age + n, failed=True) for n in range(failures)] + [run(5000)]

    assert "failed" in str(reason_to_wait(NOW, runs(pause - 1), None))
    assert reason_to_wait(NOW, runs(pause + 1), None) is None


def test_a_success_ends_the_row_of_failures() -> None:
    assert reason_to_wait(NOW, [run(), *[run(50, failed=True)] * 5], None) is None
