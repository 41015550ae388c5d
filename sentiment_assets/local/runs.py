"""Submitting Dagster runs from the command line and following them step by step.

Runs are followed in the event log of the instance, the same place the UI reads, so that a run looks
alike whether it was started by ``train``, by ``up`` or by a person.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus


@dataclass(frozen=True)
class StepEvent:
    """Something worth a line: a step started, ended or failed, or a check did not pass."""

    kind: str
    step: str
    detail: str = ""
    seconds: float | None = None


class RunFollower:
    """Reads the events of one run as they come.

    Parameters
    ----------
    instance
        The Dagster instance that stores the run.
    run_id
        The run.
    on_event
        Called for each asset whose step starts or succeeds, for what it logs meanwhile, for each step that fails and
        each check that does not pass.
    """

    def __init__(self, instance: DagsterInstance, run_id: str, on_event: Callable[[StepEvent], None]) -> None:
        self._instance = instance
        self._run_id = run_id
        self._on_event = on_event
        self._cursor: str | None = None
        self._started: dict[str, float] = {}
        self._materializing: set[str] = set()
        self.failures: list[str] = []

    def poll(self) -> DagsterRunStatus | None:
        """Report what is new; returns the run's status, None while the run does not exist yet."""
        run = self._instance.get_run_by_id(self._run_id)
        if run is None:
            return None
        connection = self._instance.get_records_for_run(self._run_id, cursor=self._cursor)
        self._cursor = connection.cursor
        for record in connection.records:
            entry = record.event_log_entry
            event = entry.dagster_event
            if event is not None:
                self._report(event.event_type, event, entry.timestamp)
            elif logging.INFO <= int(entry.level) < logging.ERROR and entry.step_key in self._materializing:
                self._on_event(StepEvent("note", entry.step_key or "", entry.user_message))
        return run.status

    def _report(self, kind: DagsterEventType, event: object, timestamp: float) -> None:
        step = getattr(event, "step_key", None) or ""
        name = step.replace("__", "/")
        if kind == DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
            self._materializing.add(step)
        elif kind == DagsterEventType.STEP_START and step in self._materializing:
            self._started[step] = timestamp
            self._on_event(StepEvent("start", name))
        elif kind == DagsterEventType.STEP_SUCCESS and step in self._materializing:
            seconds = timestamp - self._started.get(step, timestamp)
            self._on_event(StepEvent("success", name, seconds=seconds))
        elif kind == DagsterEventType.STEP_FAILURE:
            cause = _cause(event)
            self.failures.append(cause)
            self._on_event(StepEvent("failure", name, cause))
        elif kind == DagsterEventType.RUN_FAILURE and not self.failures:
            message = getattr(event, "message", None) or "the run failed"
            self.failures.append(message)
            self._on_event(StepEvent("failure", "run", message))
        elif kind == DagsterEventType.ASSET_CHECK_EVALUATION:
            data = getattr(event, "event_specific_data", None)
            if data is not None and not data.passed:
                text = f"{data.asset_key.to_user_string()}: check {data.check_name} did not pass"
                self._on_event(StepEvent("check", name, text))


def _cause(event: object) -> str:
    """The sentence that a person wrote: below what Dagster wrapped around it, above what it came from."""
    error = getattr(getattr(event, "event_specific_data", None), "error", None)
    if error is None:
        return "the step failed without an error"
    chain = [error]
    while chain[-1].cause is not None:
        chain.append(chain[-1].cause)
    messages = [str(one.message).strip() for one in chain]
    for message in messages:
        if message.startswith("sentiment_assets."):
            return message.split(": ", 1)[1]
    if "DagsterExecutionInterruptedError" in messages[-1]:
        return "it was interrupted."
    # Of a setting that Dagster refuses: pydantic's sentence on one line, without its address.
    lines = [line.strip() for line in messages[-1].splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("For further information"))
