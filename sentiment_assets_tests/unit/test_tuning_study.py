"""What a search for settings remembers of one that was killed."""

import optuna
from optuna.trial import TrialState

from sentiment_assets.spark.tuning import _requeue_interrupted


def begun(study: optuna.Study) -> float:
    """A trial that draws its settings and is never told how it ended, as a killed search leaves it."""
    return study.ask().suggest_float("penalty", 0.1, 10.0)


def test_settings_that_a_kill_interrupted_are_tried_once_more_and_not_for_ever() -> None:
    study = optuna.create_study()
    first = begun(study)
    _requeue_interrupted(study)
    assert begun(study) == first
    _requeue_interrupted(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2, "nothing waits"
    assert begun(study) != first
