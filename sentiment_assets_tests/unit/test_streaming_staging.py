"""Jobs whose rows are staged, and what a damaged one does to whoever commits it."""

import os
import time

import pytest

from sentiment_assets.failures import StreamError
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.staging import Plan, Staging, commit_waiting, waiting_jobs


def never() -> Plan:
    raise AssertionError("there is a plan already")


@pytest.mark.parametrize("plan", ["{", "[]", '{"job": "x", "of_another_version": 1}'])
def test_a_damaged_plan_fails_its_job_once_and_never_the_stream(settings: Settings, plan: str) -> None:
    staging = Staging(settings, "broken")
    staging.folder.mkdir(parents=True)
    (staging.folder / "plan.json").write_text(plan)
    staging.ready()
    with pytest.raises(StreamError, match="cannot be read"):
        staging.open(never)
    assert waiting_jobs(settings) == ["broken"]
    # No session is needed: it fails before.
    commit_waiting(None, settings)  # type: ignore[arg-type]
    assert waiting_jobs(settings) == []
    with pytest.raises(StreamError, match="could not be committed"):
        staging.result()


@pytest.mark.parametrize(
    ("file", "hours", "stays"),
    [
        ("done.json", 0.9, True),
        ("done.json", 1.1, False),
        ("plan.json", 100, True),
        ("plan.json", 150, False),
    ],
)
def test_what_an_earlier_command_left_answers_for_a_while_only(
    settings: Settings, file: str, hours: float, stays: bool
) -> None:
    staging = Staging(settings, "rescore-1")
    staging.folder.mkdir(parents=True)
    (staging.folder / file).write_text("{}")
    then = time.time() - hours * 3600
    os.utime(staging.folder / file, (then, then))
    staging.forget_if_stale()
    assert staging.folder.exists() == stays
