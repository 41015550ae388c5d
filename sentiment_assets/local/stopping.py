"""Letting the stream end at its batch boundary before what it runs in is ended.

Belongs here: the request and the wait for the run's own end. Does not belong here: which processes follow.
"""

import threading
import time

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from sentiment_assets.keys import JOB_SCORE_STREAM, TAG_ROLE
from sentiment_assets.local.instance import open_instance
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.heartbeat import read_heartbeat, request_stop

_RUNNING = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING]


def end_stream(settings: Settings, reason: str, seconds: float) -> None:
    """Ask a running lease to end and wait until Dagster has recorded that it did, ``seconds`` at most.

    The record comes after the last batch: a run whose process is ended in between would be taken for failed.
    """
    heartbeat = read_heartbeat(settings)
    if heartbeat is None or not heartbeat.running:
        return
    request_stop(settings, reason)
    pause = threading.Event()
    with open_instance(settings) as instance:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and _stream_runs(instance):
            pause.wait(0.2)


def _stream_runs(instance: DagsterInstance) -> bool:
    return bool(
        instance.get_run_ids(RunsFilter(tags={TAG_ROLE: JOB_SCORE_STREAM}, statuses=_RUNNING), limit=1)
    )
