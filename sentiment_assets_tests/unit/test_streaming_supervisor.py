"""One test per state of the supervisor's decision."""

from dataclasses import replace
from typing import Any

import pytest

from sentiment_assets.streaming.heartbeat import Heartbeat, Phase
from sentiment_assets.streaming.supervisor import (
    Decision,
    Launch,
    Reap,
    RunRecord,
    RunStatus,
    Situation,
    Skip,
    SupervisorPolicy,
    decide,
)

NOW = 1_700_000_000.0
POLICY = SupervisorPolicy(
    heartbeat_timeout=90,
    startup_timeout=180,
    backoff_base=2,
    backoff_factor=4,
    backoff_max=60,
    failures_to_open=3,
)


def run(status: str, run_id: str = "11111111-aaaa", **fields: Any) -> RunRecord:
    fields.setdefault("created_at", NOW - 1000)
    return RunRecord(run_id, RunStatus(status), **fields)


def failed(age: float, run_id: str = "ffffffff-aaaa", **fields: Any) -> RunRecord:
    return run("FAILURE", run_id, started_at=NOW - age - 1, ended_at=NOW - age, **fields)


def beat(age: float = 1.0, run_id: str | None = "11111111-aaaa", **fields: Any) -> Heartbeat:
    fields.setdefault("phase", Phase.RUNNING)
    fields.setdefault("alive", True)
    fields.setdefault("pid", 4242)
    return Heartbeat(create_time=NOW - 500, at=NOW - age, run_id=run_id, **fields)


def decision(
    *runs: RunRecord,
    heartbeat: Heartbeat | None = None,
    model: str | None = "v1",
    lag: int | None = 10,
    policy: SupervisorPolicy = POLICY,
    standby: Heartbeat | None = None,
) -> Decision:
    return decide(NOW, runs, heartbeat, model, lag, policy, standby)


def skipped(answer: Decision) -> Skip:
    assert isinstance(answer, Skip)
    return answer


def test_without_a_model_nothing_is_launched() -> None:
    assert skipped(decision(model=None)).situation is Situation.NO_MODEL


def test_without_a_broker_nothing_is_launched() -> None:
    assert skipped(decision(lag=None)).situation is Situation.NO_BROKER


def test_without_waiting_messages_nothing_is_launched() -> None:
    assert skipped(decision(lag=0)).situation is Situation.IDLE


def test_the_first_lease_is_launched_when_messages_wait() -> None:
    answer = decision()
    assert isinstance(answer, Launch)
    assert (answer.lease, answer.attempt) == (1, 1)


def test_an_ended_lease_is_followed_by_the_next_one() -> None:
    answer = decision(run("SUCCESS", lease=7, attempt=1, ended_at=NOW - 1))
    assert isinstance(answer, Launch)
    assert (answer.lease, answer.attempt) == (8, 1)


def test_an_ended_lease_is_not_renewed_while_there_is_nothing_to_do() -> None:
    answer = skipped(decision(run("SUCCESS", lease=7, ended_at=NOW - 1), lag=0))
    assert answer.situation is Situation.IDLE


def test_a_queued_run_is_waited_for_however_long_it_takes() -> None:
    answer = skipped(decision(run("QUEUED", created_at=NOW - 10_000)))
    assert answer.situation is Situation.STARTING
    assert "11111111 (QUEUED)" in answer.reason


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED"])
def test_a_starting_run_has_time_to_give_its_first_heartbeat(status: str) -> None:
    answer = skipped(decision(run(status, created_at=NOW - 179)))
    assert answer.situation is Situation.STARTING


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED"])
def test_a_run_that_never_gave_a_heartbeat_is_reaped_after_the_start_up_time(status: str) -> None:
    answer = decision(run(status, created_at=NOW - 181))
    assert isinstance(answer, Reap)
    assert answer.run_id == "11111111-aaaa"


def test_the_start_up_time_counts_from_the_start_not_from_the_queue() -> None:
    answer = skipped(decision(run("STARTED", created_at=NOW - 10_000, started_at=NOW - 10)))
    assert answer.situation is Situation.STARTING


def test_a_healthy_run_is_left_alone_and_named() -> None:
    answer = skipped(decision(run("STARTED"), heartbeat=beat(lag=12)))
    assert answer.situation is Situation.RUNNING
    assert "11111111 (STARTED)" in answer.reason


def test_a_run_is_healthy_even_when_broker_and_model_are_unknown() -> None:
    answer = skipped(decision(run("STARTED"), heartbeat=beat(), model=None, lag=None))
    assert answer.situation is Situation.RUNNING


def test_a_run_with_an_old_heartbeat_is_reaped_with_its_process() -> None:
    answer = decision(run("STARTED"), heartbeat=beat(age=91))
    assert isinstance(answer, Reap)
    assert answer.heartbeat is not None
    assert answer.heartbeat.pid == 4242
    assert not answer.canceled


def test_a_run_whose_process_is_gone_is_reaped_at_once() -> None:
    answer = decision(run("STARTED"), heartbeat=beat(age=1, alive=False))
    assert isinstance(answer, Reap)
    assert answer.heartbeat is None


def test_the_heartbeat_of_another_run_does_not_keep_a_run_alive() -> None:
    answer = decision(run("STARTED"), heartbeat=beat(run_id="22222222-bbbb"))
    assert isinstance(answer, Reap)
    assert "22222222" in answer.reason


def test_a_run_that_says_it_has_stopped_has_time_to_finish() -> None:
    answer = skipped(
        decision(run("STARTED"), heartbeat=beat(age=20, phase=Phase.STOPPED, detail="idle", alive=False))
    )
    assert answer.situation is Situation.ENDING


def test_a_run_that_stopped_long_ago_but_never_finished_is_reaped() -> None:
    # One that did not hand over has failed, or was stopped by a person.
    for fields in ({"age": 601, "hands_over": True}, {"age": 91}, {"age": 91, "alive": False}):
        answer = decision(run("STARTED"), heartbeat=beat(phase=Phase.STOPPED, **fields))
        assert isinstance(answer, Reap)


def test_checks_of_the_tables_may_take_minutes_and_keep_nobody_from_scoring() -> None:
    checking = run("STARTED", lease=7, progressed=True)
    over = beat(age=300, phase=Phase.STOPPED, lease=7, hands_over=True)
    assert skipped(decision(checking, heartbeat=over, lag=0)).situation is Situation.ENDING
    answer = decision(checking, heartbeat=over)
    assert isinstance(answer, Launch)
    assert (answer.lease, answer.attempt, answer.succeeds) == (8, 1, None)
    # The next lease writes the heartbeat now.
    following = beat(run_id="22222222-bbbb", lease=8, started_at=NOW - 100)
    known = run("STARTED", "22222222-bbbb", lease=8, created_at=NOW - 100)
    answer = decision(known, checking, heartbeat=following)
    assert skipped(answer).situation is Situation.ENDING
    answer = decision(known, checking, heartbeat=replace(following, started_at=NOW - 700))
    assert isinstance(answer, Reap)
    assert answer.run_id == checking.run_id


@pytest.mark.parametrize(
    ("fields", "status", "hands_over"),
    [
        # A person stopped it, or terminates the run.
        ({"lease": 7, "progressed": True}, "STARTED", False),
        ({"lease": 7, "progressed": True}, "CANCELING", True),
        # Whose successor nobody would know for one.
        ({"progressed": True}, "STARTED", True),
        ({"lease": 7}, "STARTED", True),
    ],
)
def test_other_streams_are_not_followed_while_they_are_checked(
    fields: dict[str, Any], status: str, hands_over: bool
) -> None:
    stopped = beat(age=20, phase=Phase.STOPPED, lease=7, hands_over=hands_over)
    assert skipped(decision(run(status, **fields), heartbeat=stopped)).situation is Situation.ENDING


def test_a_stream_that_was_well_and_ended_with_the_main_job_ends_a_row_of_failures() -> None:
    before = [failed(100 + n, f"{n}fffffff-aaaa", lease=n) for n in range(2)]
    ended = failed(50, lease=7, progressed=True, stood_down=True)
    answer = decision(ended, *before)
    assert isinstance(answer, Launch)
    assert answer.attempt == 1
    answer = decision(failed(40, lease=8), ended, *before)
    assert isinstance(answer, Launch)
    assert answer.attempt == 2
    # One that had not come to score yet is passed over.
    starting = failed(50, lease=7, stood_down=True)
    assert skipped(decision(failed(40, lease=8), starting, *before)).situation is Situation.CIRCUIT_OPEN


def test_a_run_being_cancelled_is_waited_for() -> None:
    answer = skipped(decision(run("CANCELING"), heartbeat=beat()))
    assert answer.situation is Situation.ENDING


def test_a_run_that_dies_while_being_cancelled_is_recorded_as_cancelled() -> None:
    answer = decision(run("CANCELING"), heartbeat=beat(alive=False))
    assert isinstance(answer, Reap)
    assert answer.canceled


def test_an_orphan_behind_a_newer_run_is_reaped_first() -> None:
    orphan = run("STARTED", "22222222-bbbb", created_at=NOW - 5000)
    answer = decision(run("STARTED"), orphan, heartbeat=beat())
    assert isinstance(answer, Reap)
    assert answer.run_id == "22222222-bbbb"


def test_a_failed_run_is_tried_again_after_the_backoff() -> None:
    waiting = skipped(decision(failed(age=1, lease=4, attempt=1)))
    assert waiting.situation is Situation.BACKOFF
    answer = decision(failed(age=2, lease=4, attempt=1))
    assert isinstance(answer, Launch)
    assert (answer.lease, answer.attempt) == (5, 2)


def test_the_backoff_grows_with_each_failure_in_a_row() -> None:
    twice = (failed(age=7, lease=5, attempt=2), failed(age=50, lease=4, attempt=1))
    assert skipped(decision(*twice)).situation is Situation.BACKOFF
    assert isinstance(decision(replace(twice[0], ended_at=NOW - 8), twice[1]), Launch)


def test_the_backoff_never_exceeds_its_maximum() -> None:
    assert POLICY.backoff(50) == 60


def test_a_success_ends_the_row_of_failures() -> None:
    answer = decision(failed(age=2, lease=6), run("SUCCESS", lease=5), failed(age=900), failed(age=901))
    assert isinstance(answer, Launch)
    assert answer.attempt == 2


def test_the_circuit_opens_after_failures_in_a_row_and_says_how_to_close_it() -> None:
    answer = skipped(decision(failed(age=1000), failed(age=1100), failed(age=1200)))
    assert answer.situation is Situation.CIRCUIT_OPEN
    assert "off and on" in answer.reason
    assert "ffffffff (FAILURE)" in answer.reason


def test_switching_the_sensor_off_and_on_closes_the_circuit() -> None:
    runs = (failed(age=1000, lease=9, attempt=3), failed(age=1100), failed(age=1200))
    answer = decision(*runs, policy=replace(POLICY, sensor_started_at=NOW - 5))
    assert isinstance(answer, Launch)
    assert (answer.lease, answer.attempt) == (10, 1)


def test_failures_after_switching_the_sensor_on_count_again() -> None:
    runs = (failed(age=100), failed(age=110), failed(age=120))
    answer = skipped(decision(*runs, policy=replace(POLICY, sensor_started_at=NOW - 500)))
    assert answer.situation is Situation.CIRCUIT_OPEN


def test_crashes_of_a_stream_that_makes_progress_each_time_never_open_the_circuit() -> None:
    answer = decision(*[failed(age=10 * n, progressed=True, lease=10 - n) for n in range(1, 10)])
    assert isinstance(answer, Launch)
    assert answer.attempt == 2


def test_a_cancelled_stream_stays_down_until_the_sensor_is_toggled() -> None:
    canceled = run("CANCELED", ended_at=NOW - 300, lease=3)
    answer = skipped(decision(canceled))
    assert answer.situation is Situation.CANCELED
    assert "off and on" in answer.reason
    toggled_before = replace(POLICY, sensor_started_at=NOW - 301)
    assert skipped(decision(canceled, policy=toggled_before)).situation is Situation.CANCELED
    toggled_after = replace(POLICY, sensor_started_at=NOW - 299)
    assert isinstance(decision(canceled, policy=toggled_after), Launch)


def test_a_run_that_a_person_started_after_a_cancel_brings_the_stream_back() -> None:
    by_hand = run("SUCCESS", ended_at=NOW - 10)
    answer = decision(by_hand, run("CANCELED", ended_at=NOW - 300, lease=3))
    assert isinstance(answer, Launch)
    assert answer.lease == 4


def test_a_newer_model_is_left_to_the_lease_itself() -> None:
    answer = skipped(decision(run("STARTED"), heartbeat=beat(model_version="v1"), model="v2"))
    assert answer.situation is Situation.RUNNING
    assert "v2" in answer.reason
    assert "batch boundary" in answer.reason


def test_a_stream_in_the_foreground_is_not_disturbed() -> None:
    answer = skipped(decision(heartbeat=beat(run_id=None)))
    assert answer.situation is Situation.FOREGROUND
    assert "4242" in answer.reason


def test_a_finished_run_whose_process_still_writes_is_not_joined_by_another() -> None:
    answer = skipped(decision(run("FAILURE", ended_at=NOW - 100), heartbeat=beat()))
    assert answer.situation is Situation.FOREGROUND
    assert "11111111" in answer.reason


@pytest.mark.parametrize("gone", [{"alive": False}, {"phase": Phase.STOPPED}, {"age": 91, "alive": None}])
def test_a_foreground_stream_that_has_ended_does_not_hold_the_supervisor_back(gone: dict[str, Any]) -> None:
    assert isinstance(decision(heartbeat=beat(run_id=None, **gone)), Launch)


def test_a_heartbeat_slightly_in_the_future_is_fresh() -> None:
    answer = skipped(decision(run("STARTED"), heartbeat=beat(age=-30, alive=None)))
    assert answer.situation is Situation.RUNNING


def test_a_heartbeat_far_in_the_future_counts_only_while_its_process_exists() -> None:
    alive = skipped(decision(run("STARTED"), heartbeat=beat(age=-5000)))
    assert alive.situation is Situation.RUNNING
    assert isinstance(decision(run("STARTED"), heartbeat=beat(age=-5000, alive=None)), Reap)


def test_a_clock_set_back_makes_neither_a_run_nor_a_failure_wait_for_ever() -> None:
    assert isinstance(decision(run("STARTED", created_at=NOW + 5000)), Reap)
    assert isinstance(decision(failed(age=-5000)), Launch)


def test_two_supervisors_ask_for_the_same_run_and_a_later_one_for_another() -> None:
    first = decision(run("SUCCESS", lease=7))
    again = decision(run("SUCCESS", lease=7))
    later = decision(failed(age=50, lease=8, attempt=1), run("SUCCESS", lease=7))
    assert isinstance(first, Launch)
    assert isinstance(again, Launch)
    assert isinstance(later, Launch)
    assert first.run_key == again.run_key == "stream-lease-8-attempt-1-after-11111111"
    assert later.run_key == "stream-lease-9-attempt-2-after-ffffffff"


def test_runs_without_a_lease_number_do_not_make_a_run_key_come_again() -> None:
    by_hand = [run("SUCCESS", f"{number}2345678-cccc", ended_at=NOW - 10) for number in range(2)]
    first, second = decision(by_hand[0]), decision(by_hand[1], by_hand[0])
    assert isinstance(first, Launch)
    assert isinstance(second, Launch)
    assert first.run_key != second.run_key


def ready(left: float = 500.0, **fields: Any) -> Heartbeat:
    return beat(ready=True, lease_left_seconds=left, model_version="v1", **fields)


SUCCESSOR = "22222222-bbbb"


def test_a_lease_that_ends_soon_gets_a_successor_and_an_earlier_one_does_not() -> None:
    assert isinstance(decision(run("STARTED", lease=7), heartbeat=ready(left=62)), Skip)
    answer = decision(run("STARTED", lease=7), heartbeat=ready(left=60))
    assert isinstance(answer, Launch)
    assert (answer.lease, answer.attempt, answer.succeeds) == (8, 1, "11111111-aaaa")


def test_a_newer_model_gets_a_successor_at_once() -> None:
    answer = decision(run("STARTED", lease=7), heartbeat=ready(), model="v2")
    assert isinstance(answer, Launch)
    assert answer.succeeds == "11111111-aaaa"


def test_a_successor_is_always_ready_where_that_is_wanted() -> None:
    always = replace(POLICY, always_standby=True)
    assert isinstance(decision(run("STARTED", lease=7), heartbeat=ready(), policy=always), Launch)


@pytest.mark.parametrize(
    "fields",
    [{"ready": False}, {"lease_left_seconds": None}, {"phase": Phase.STOPPED}],
)
def test_a_stream_that_does_not_score_yet_or_any_more_gets_no_successor(fields: dict[str, Any]) -> None:
    assert isinstance(decision(run("STARTED", lease=7), heartbeat=replace(ready(left=5), **fields)), Skip)


def test_an_idle_stream_and_one_that_a_person_launched_get_no_successor() -> None:
    assert isinstance(
        decision(run("STARTED", lease=7), heartbeat=ready(left=5, idle_seconds=60), lag=0), Skip
    )
    assert isinstance(decision(run("STARTED"), heartbeat=ready(left=5)), Skip)


def test_a_successor_that_prepares_itself_is_left_alone_and_gets_none_of_its_own() -> None:
    runs = (run("STARTED", SUCCESSOR, lease=8), run("STARTED", lease=7))
    waits = beat(run_id=SUCCESSOR, phase=Phase.STANDBY)
    answer = skipped(decision(*runs, heartbeat=ready(left=5), standby=waits))
    assert (answer.situation, "11111111" in answer.reason) == (Situation.RUNNING, True)


def test_a_silent_successor_is_reaped_and_the_stream_is_not() -> None:
    runs = (run("STARTED", SUCCESSOR, lease=8), run("STARTED", lease=7))
    answer = decision(*runs, heartbeat=ready(left=5), standby=beat(age=91, run_id=SUCCESSOR, pid=77))
    assert isinstance(answer, Reap)
    assert answer.run_id == SUCCESSOR


def test_a_successor_that_failed_is_tried_again_after_the_backoff_and_not_for_ever() -> None:
    alone, soon = run("STARTED", lease=7), ready(left=5)
    assert isinstance(decision(failed(age=1, lease=8), alone, heartbeat=soon), Skip)
    again = decision(failed(age=3, lease=8), alone, heartbeat=soon)
    assert isinstance(again, Launch)
    assert (again.lease, again.attempt) == (9, 2)
    often = [failed(age=900, lease=lease) for lease in (10, 9, 8)]
    assert isinstance(decision(*often, alone, heartbeat=soon), Skip)


def test_successors_that_found_no_room_do_not_keep_a_stream_down_that_was_well() -> None:
    in_vain = [failed(40 - n, f"{n}fffffff-aaaa", lease=12 - n, succeeds=True) for n in range(3)]
    answer = decision(*in_vain, run("SUCCESS", lease=7, ended_at=NOW - 1, progressed=True))
    assert isinstance(answer, Launch)
    assert (answer.attempt, answer.succeeds) == (1, None)
    # One that took over and scored, or that was launched while nothing ran, counts.
    alone = [replace(one, succeeds=False) for one in in_vain]
    assert skipped(decision(*alone)).situation is Situation.CIRCUIT_OPEN


def test_a_successor_that_a_person_cancelled_is_not_launched_again_for_this_lease() -> None:
    canceled = run("CANCELED", SUCCESSOR, lease=8, ended_at=NOW - 3)
    assert isinstance(decision(canceled, run("STARTED", lease=7), heartbeat=ready(left=5)), Skip)


def test_a_successor_that_stood_down_does_not_hide_the_cancel_of_the_stream_before() -> None:
    stood_down = run("SUCCESS", SUCCESSOR, lease=8, ended_at=NOW - 1, stood_down=True)
    answer = skipped(decision(stood_down, run("CANCELED", lease=7, ended_at=NOW - 2)))
    assert answer.situation is Situation.CANCELED


def test_a_stream_that_had_scored_is_restarted_without_a_pause() -> None:
    assert isinstance(decision(failed(age=0, lease=4, progressed=True)), Launch)


def test_a_run_that_has_handed_over_may_end_in_peace() -> None:
    runs = (run("STARTED", SUCCESSOR, lease=8), run("STARTED", lease=7, progressed=True))
    on = ready(run_id=SUCCESSOR, lease=8, took_over_at=NOW - 100)
    assert skipped(decision(*runs, heartbeat=on)).situation is Situation.ENDING
    late = decision(*runs, heartbeat=replace(on, took_over_at=NOW - 601))
    assert isinstance(late, Reap)
    assert (late.run_id, late.heartbeat) == (runs[1].run_id, None)


def test_a_run_that_never_began_is_reaped_whoever_writes() -> None:
    runs = (run("STARTED", SUCCESSOR, lease=8), run("STARTED", lease=7))
    answer = decision(*runs, heartbeat=ready(run_id=SUCCESSOR, lease=8, took_over_at=NOW - 100))
    assert isinstance(answer, Reap)
    assert answer.run_id == runs[1].run_id


def test_who_cancels_a_spare_stream_does_not_stop_the_stream() -> None:
    spare = run("CANCELED", SUCCESSOR, lease=8, succeeds=True, ended_at=NOW - 50)
    answer = decision(spare, run("SUCCESS", lease=7, ended_at=NOW - 10))
    assert isinstance(answer, Launch)
    took_over = replace(spare, progressed=True)
    assert skipped(decision(took_over, run("SUCCESS", lease=7))).situation is Situation.CANCELED
