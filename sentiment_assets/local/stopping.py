"""Letting the stream end at its batch boundary before what it runs in is ended, and why it may stay down.

Belongs here: the request and the wait for the run's own end. Does not belong here: which processes follow.
"""

import logging
import threading
import time

from dagster import DagsterError, DagsterInstance, DagsterRunStatus, RunsFilter
from sqlalchemy.exc import SQLAlchemyError

from sentiment_assets.keys import (
    JOB_SCORE_STREAM,
    ROLE_OF_SINK,
    SENSOR_SUPERVISOR,
    TAG_ROLE,
    TAG_RUN,
    TAG_STOOD_DOWN,
)
from sentiment_assets.local.instance import open_instance
from sentiment_assets.resources.stream_runs import stream_runs
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.heartbeat import read_heartbeat, read_standby, request_stop
from sentiment_assets.streaming.supervisor import Situation, Skip, SupervisorPolicy, decide

log = logging.getLogger(__name__)

_UNDER_WAY = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING]
_RUNNING = [*_UNDER_WAY, DagsterRunStatus.CANCELING]


def end_stream(settings: Settings, reason: str, seconds: float) -> None:
    """Ask a running lease to end and wait until Dagster has recorded that it did, ``seconds`` at most.

    The record comes after the last batch: a run whose process is ended in between would be taken for failed.
    """
    heartbeat = read_heartbeat(settings)
    running = heartbeat is not None and heartbeat.running
    if running:
        request_stop(settings, reason)
    try:
        with open_instance(settings) as instance:
            pause = threading.Event()
            deadline = time.monotonic() + seconds
            while running and time.monotonic() < deadline and _stream_runs(instance):
                pause.wait(0.2)
            _stand_down(instance)
    except (SQLAlchemyError, DagsterError, OSError) as error:
        # The processes have to end all the same.
        log.warning("Dagster's database could not be told of the end (%s).", type(error).__name__)


def _stand_down(instance: DagsterInstance) -> None:
    """Mark what did not come to score yet, or not to its end: that is no failure which the next start waits for."""
    # Not one that a person cancels: that is respected.
    for run in instance.get_runs(RunsFilter(statuses=_UNDER_WAY)):
        if run.tags.get(TAG_ROLE, "").startswith((JOB_SCORE_STREAM, ROLE_OF_SINK)):
            instance.add_run_tags(run.run_id, {TAG_STOOD_DOWN: "true", TAG_RUN: run.run_id})


def reason_to_stay_down(settings: Settings, instance: DagsterInstance) -> str | None:
    """Why the supervisor launches no stream before a person acts: a cancel, or too many failures; None: it may."""
    policy = SupervisorPolicy.from_settings(settings, _switched_on_at(instance))
    # Neither depends on messages or on which model it is.
    decision = decide(
        time.time(), stream_runs(instance), read_heartbeat(settings), "any", 1, policy, read_standby(settings)
    )
    down = isinstance(decision, Skip) and decision.situation in (Situation.CANCELED, Situation.CIRCUIT_OPEN)
    return decision.reason if down else None


def _switched_on_at(instance: DagsterInstance) -> float | None:
    for state in instance.all_instigator_state():
        if state.instigator_name == SENSOR_SUPERVISOR:
            return getattr(state.instigator_data, "last_sensor_start_timestamp", None)
    return None


def _stream_runs(instance: DagsterInstance) -> bool:
    return bool(
        instance.get_run_ids(RunsFilter(tags={TAG_ROLE: JOB_SCORE_STREAM}, statuses=_RUNNING), limit=1)
    )
