"""Jobs whose rows are staged, and what a damaged one does to whoever commits it."""

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
