"""Jobs whose rows are staged, and what a damaged one does to whoever commits it."""

import os
import time

import pytest

from sentiment_assets.failures import StreamError
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.staging import (
    Plan,
    Staging,
    commit_waiting,
    models_of_jobs,
    remove_abandoned,
    waiting_jobs,
)


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


def test_what_nobody_went_on_with_for_a_week_is_removed(settings: Settings) -> None:
    names = ("new", "old", "old but to be committed")
    for name in names:
        folder = Staging(settings, name).folder
        (folder / "piece-0").mkdir(parents=True)
        if name.endswith("committed"):
            Staging(settings, name).ready()
        then = time.time() - (7 * 86_400 if name.startswith("old") else 86_400)
        os.utime(folder, (then, then))
    assert remove_abandoned(settings) == 1
    assert [Staging(settings, name).folder.exists() for name in names] == [True, False, True]


def test_the_models_of_jobs_that_go_on_are_known(settings: Settings) -> None:
    assert models_of_jobs(settings) == set()
    for name in ("done", "begun"):
        Staging(settings, name).open(lambda name=name: Plan(name, name, f"model of {name}", {}, {}))
    (Staging(settings, "done").folder / "done.json").write_text("{}")
    assert models_of_jobs(settings) == {"model of begun"}
