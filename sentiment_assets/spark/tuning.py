"""The search for better settings of one candidate, on a slice of the training rows.

Belongs here: what is searched, the trials, successive halving. Does not belong here: how a configuration is fitted
(``training``), keeping the trials for the report (``reports.studies``), using the winner (``local.training``).

Optuna does the searching, since a well-kept library does it better than code of ours: it proposes (TPE, Bergstra et
al. 2011), stops what falls behind (asynchronous successive halving, Li et al. 2020), and keeps every trial in SQLite,
so that a search that was killed goes on where it stopped. It adds one small package to what Dagster brings anyway.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from pyspark import StorageLevel
from pyspark.sql import DataFrame

from sentiment_assets.failures import TrainingError
from sentiment_assets.spark.evaluation import Metrics, evaluate
from sentiment_assets.spark.features import VARIANTS
from sentiment_assets.spark.learning import part_of
from sentiment_assets.spark.params import Params
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.training import ALGORITHMS, Candidate, fit_configurations

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial

VALIDATION_FRACTION = 0.15
RUNGS = (1, 3, 9)
"""A trial is fitted on a ninth, a third, all of the rows; of each rung the better third goes on."""
FEATURES, ALGORITHM = "features.", "algorithm."
_AGAIN = "again"
_ERROR = "error"

Value = float | int | str | bool


class Tried(BaseModel):
    """One trial.

    Parameters
    ----------
    candidate
        Whose settings are searched.
    state
        ``complete``, ``pruned`` (fell behind and was stopped) or ``fail`` (could not be fitted, or was interrupted).
    accuracy
        On the validation slice after the last rung it reached.
    rows
        Training rows of that rung.
    parameters
        ``features.<name>`` and ``algorithm.<name>`` with their values; empty for the candidate's own settings.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    candidate: str
    number: int
    state: str
    accuracy: float | None
    rows: int
    seconds: float
    parameters: dict[str, Value]


@dataclass(frozen=True)
class Budget:
    """When a search ends: after so many trials in all (earlier runs counted), or so many seconds of this run."""

    trials: int
    seconds: float


def search_space(candidate: Candidate) -> "dict[str, BaseDistribution]":
    """What is searched for a candidate, by parameter name."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    features: dict[str, dict[str, BaseDistribution]] = {
        "nb_ngrams": {
            "min_documents": IntDistribution(1, 5),
            "character_order": CategoricalDistribution((0, 4, 5, 6)),
            "smoothing": FloatDistribution(0.1, 5.0, log=True),
            "ratio_floor": FloatDistribution(0.5, 2.0),
        },
        "hashing": {
            "buckets": CategoricalDistribution((2**16, 2**18, 2**20)),
            "min_documents": IntDistribution(0, 10),
        },
        "count": {
            "vocabulary_size": CategoricalDistribution((2**14, 2**16, 2**18)),
            "min_documents": IntDistribution(0, 10),
        },
        "ngrams": {"vocabulary_size": CategoricalDistribution((2**14, 2**15, 2**16))},
        "ngrams_chi2": {"selected": CategoricalDistribution((2**12, 2**14, 2**15))},
    }
    linear: dict[str, BaseDistribution] = {"penalty": FloatDistribution(0.1, 30.0, log=True)}
    tree: dict[str, BaseDistribution] = {
        "max_depth": IntDistribution(5, 15),
        "min_instances": IntDistribution(1, 50, log=True),
    }
    algorithms: dict[str, dict[str, BaseDistribution]] = {
        "logistic_regression": linear,
        "linear_svm": linear,
        "naive_bayes": {"smoothing": FloatDistribution(0.01, 10.0, log=True)},
        "decision_tree": tree,
        "random_forest": tree,
    }
    return {
        **{FEATURES + name: d for name, d in features.get(candidate.variant, {}).items()},
        **{ALGORITHM + name: d for name, d in algorithms[candidate.algorithm].items()},
    }


def parameters_of(candidate: Candidate, values: Mapping[str, Value]) -> tuple[Params, Params]:
    """Parameters of features and algorithm: a trial's values in place of the candidate's own.

    Raises
    ------
    TrainingError
        When a value cannot be used.
    """
    chosen = {
        prefix: {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
        for prefix in (FEATURES, ALGORITHM)
    }
    algorithm = {**candidate.overrides, **chosen[ALGORITHM]}
    return (
        VARIANTS[candidate.variant].params(chosen[FEATURES]),
        ALGORITHMS[candidate.algorithm].params(algorithm),
    )


def search(
    candidate: Candidate,
    train: DataFrame,
    *,
    storage: Path,
    data_version: str,
    budget: Budget,
    seed: int,
    on_trial: Callable[[Tried, Tried | None], None],
) -> list[Tried]:
    """Try settings until the budget is spent; trials of earlier runs on the same data count and are built upon.

    The first trial has the candidate's own settings, so the winner is never worse than they are on the validation
    slice. Settings that cannot be fitted are a failed trial, not the end of the search.

    Parameters
    ----------
    candidate
        Whose settings are searched.
    train
        ``train_tweets``: columns ``text, label, text_key``. A slice of it is kept back to measure the trials on; the
        test rows are not touched.
    storage
        SQLite file of all searches; created with its folder.
    data_version
        Of ``train``.
    on_trial
        Called after each trial with it and the best so far.

    Returns
    -------
    list
        All trials, those of earlier runs too, by number.

    Raises
    ------
    TrainingError
        When the candidate cannot be fitted even with its own settings: the rows are the cause then.
    """
    import optuna
    from optuna.trial import TrialState

    space = search_space(candidate)
    study = _study(candidate, storage, data_version, space, seed)
    _requeue_interrupted(study)
    fit_rows, validation = _slices(train, seed)
    kept = [frame.persist(StorageLevel.DISK_ONLY) for frame in (fit_rows, validation)]
    deadline = time.monotonic() + budget.seconds
    try:
        while len(_measured(study)) < budget.trials and time.monotonic() < deadline:
            trial = study.ask(space if _own_is_measured(study) else {})
            try:
                value = _run(trial, candidate, fit_rows, validation, seed)
            except optuna.TrialPruned:
                study.tell(trial, state=TrialState.PRUNED)
            except TrainingError as error:
                trial.set_user_attr(_ERROR, str(error))
                study.tell(trial, state=TrialState.FAIL)
                if not trial.params:
                    raise
            else:
                study.tell(trial, value)
            found = _all(study, candidate)
            on_trial(next(t for t in found if t.number == trial.number), best_of(found))
    finally:
        for frame in kept:
            frame.unpersist()
    return _all(study, candidate)


def best_of(trials: Sequence[Tried]) -> Tried | None:
    """The best of the trials that were fitted on all rows; the earliest of equals. None when there is none."""
    complete = [t for t in trials if t.state == "complete" and t.accuracy is not None]
    return max(complete, key=lambda t: (t.accuracy or 0.0, -t.number), default=None)


def _study(
    candidate: Candidate, storage: Path, data_version: str, space: "Mapping[str, BaseDistribution]", seed: int
) -> "Study":
    """The study of this candidate on this data, by this code, in this space."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    versions = (VARIANTS[candidate.variant].code_version, ALGORITHMS[candidate.algorithm].code_version)
    shape = {name: repr(distribution) for name, distribution in space.items()}
    digest = hashlib.sha256(json.dumps([versions, shape, RUNGS, VALIDATION_FRACTION, seed]).encode())
    database = optuna.storages.RDBStorage(f"sqlite:///{storage}")
    study = optuna.create_study(
        study_name=f"{candidate.name}-{data_version}-{digest.hexdigest()[:8]}",
        storage=database,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    )
    # Seeded by what is known: a search that goes on does not propose its first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=8)
    return study


def _requeue_interrupted(study: "Study") -> None:
    """Trials that a killed search left behind count as failed, and their settings are tried once more.

    Not twice: settings that end the process would end every search to come.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params and _AGAIN not in trial.user_attrs:
            study.enqueue_trial(trial.params, user_attrs={_AGAIN: True})


def _own_is_measured(study: "Study") -> bool:
    """Whether the candidate's own settings, a trial without parameters, were tried."""
    return any(not trial.params for trial in _measured(study))


def _measured(study: "Study") -> "list[FrozenTrial]":
    """Trials that count: measured to their end or their pruning, or found impossible; not interrupted ones."""
    from optuna.trial import TrialState

    done = (TrialState.COMPLETE, TrialState.PRUNED)
    return [t for t in study.trials if t.state in done or _ERROR in t.user_attrs]


def _slices(train: DataFrame, seed: int) -> tuple[DataFrame, DataFrame]:
    validation = part_of(train, VALIDATION_FRACTION, seed=seed, purpose="validation")
    rest = train.join(validation.select("text_key"), "text_key", "left_anti")
    return rest, validation


def _run(
    trial: "OptunaTrial", candidate: Candidate, fit_rows: DataFrame, validation: DataFrame, seed: int
) -> float:
    """Fit on each rung until the trial falls behind; the accuracy after the last one."""
    import optuna

    features, algorithm = parameters_of(candidate, trial.params)
    begun = time.monotonic()
    accuracy = 0.0
    for rung in RUNGS:
        part = part_of(fit_rows, rung / RUNGS[-1], seed=seed, purpose="rung")
        rows, metrics = _fit(candidate, features, algorithm, part, validation, seed)
        accuracy = metrics.accuracy
        trial.set_user_attr("rows", rows)
        trial.set_user_attr("seconds", time.monotonic() - begun)
        trial.report(accuracy, rung)
        if rung < RUNGS[-1] and trial.should_prune():
            raise optuna.TrialPruned
    return accuracy


def _fit(
    candidate: Candidate,
    features: Params,
    algorithm: Params,
    part: DataFrame,
    validation: DataFrame,
    seed: int,
) -> tuple[int, Metrics]:
    variant = VARIANTS[candidate.variant]
    [found] = [
        (fitted.rows, evaluate(score(fitted.model, validation)))
        for fitted in fit_configurations(
            variant, features, [(ALGORITHMS[candidate.algorithm], algorithm)], part, seed=seed
        )
    ]
    return found


def _all(study: "Study", candidate: Candidate) -> list[Tried]:
    """Trials by number, without those that still wait in the queue."""
    return [
        _tried(candidate.name, trial)
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
    ]


def _tried(candidate: str, trial: "FrozenTrial") -> Tried:
    reached = max(trial.intermediate_values, default=None)
    return Tried(
        candidate=candidate,
        number=trial.number,
        state=trial.state.name.lower(),
        accuracy=None if reached is None else trial.intermediate_values[reached],
        rows=int(trial.user_attrs.get("rows", 0)),
        seconds=float(trial.user_attrs.get("seconds", 0.0)),
        parameters=dict(trial.params),
    )
