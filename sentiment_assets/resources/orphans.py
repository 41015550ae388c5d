"""Runs whose process died without a word."""

import contextlib
import signal
import time

import psutil
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord, RunsFilter

from sentiment_assets.keys import TAG_INTERRUPTED, TAG_PROCESS, TAG_RUN
from sentiment_assets.runtime.identity import living_process, process_is_gone, process_of, process_tag

HAS_A_PROCESS = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
"""Of runs that are executed; those that wait in the queue are not."""
_ASKED_SECONDS = 30.0
"""What Dagster interrupted itself is over by then; 60 s after the request it records the end, whatever goes on."""
_MESSAGE = "The process of this run is gone (killed, or the machine stopped)."


def note_process(instance: DagsterInstance, run_id: str) -> None:
    """Note on a run which process executes it; the first thing that a step does which may take minutes."""
    if instance.has_run(run_id):
        instance.add_run_tags(run_id, process_tags(run_id))


def process_tags(run_id: str) -> dict[str, str]:
    """Tags that name the calling process as the one that executes a run."""
    return {TAG_PROCESS: process_tag(), TAG_RUN: run_id}


def own_tag(run: DagsterRun, tag: str) -> str | None:
    """A tag that a run has set itself, not one that was copied from the run that it repeats."""
    return run.tags.get(tag) if run.tags.get(TAG_RUN) == run.run_id else None


def began(record: RunRecord) -> float:
    """When a run began, else when it last changed: a run may have waited in the queue for hours."""
    return float(record.start_time or record.update_timestamp.timestamp())


def fail_orphaned_runs(instance: DagsterInstance, *, start_seconds: float = 180.0) -> list[DagsterRun]:
    """Mark runs as failed whose process is gone, so that they do not block the queue for ever.

    The default run launcher never notices that the host of a run died (measured with Dagster 1.13): the
    run would stay STARTED and the limit of one training run at a time would hold all others back.

    Parameters
    ----------
    instance
        The Dagster instance.
    start_seconds
        A run that carries no process tag yet is left alone for so long after its start.

    Returns
    -------
    list of DagsterRun
        The runs that were marked.
    """
    orphans = []
    now = time.time()
    for record in instance.get_run_records(RunsFilter(statuses=HAS_A_PROCESS)):
        run = record.dagster_run
        tag = own_tag(run, TAG_PROCESS)
        asked = now - record.update_timestamp.timestamp()
        if run.status == DagsterRunStatus.CANCELING and tag is not None and asked > _ASKED_SECONDS:
            _interrupt_once(instance, run, tag)
        never_tagged = tag is None and now - began(record) > start_seconds
        if never_tagged or (tag is not None and process_is_gone(tag)):
            if run.status == DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, _MESSAGE)
            else:
                instance.report_run_failed(run, _MESSAGE)
            orphans.append(run)
    return orphans


def _interrupt_once(instance: DagsterInstance, run: DagsterRun, tag: str) -> None:
    """Interrupt the process of a run whose end a person asked for, as Dagster does where it still knows the process.

    A code server that was started again does not know the runs of the one before (measured with Dagster 1.13); a
    training of the command line it never knew.
    """
    process = process_of(tag)
    # Noted on the run: the sensor and the main job look at the same runs, and a second one would hit the orderly end.
    if process is not None and own_tag(run, TAG_INTERRUPTED) is None:
        instance.add_run_tags(run.run_id, {TAG_INTERRUPTED: "true"})
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGINT)


def end_silent_process(pid: int, create_time: float, *, grace_seconds: float = 3.0) -> None:
    """End a streaming process that gives no sign of life, unless its pid belongs to another one by now.

    Its JVM follows by itself; one that hangs is ended by whoever waits for its lock (``streaming.exclusive``).
    """
    process = living_process(pid, create_time)
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        try:
            process.terminate()
            process.wait(timeout=grace_seconds)
        except psutil.TimeoutExpired:
            process.kill()
