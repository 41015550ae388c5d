"""``tuning``: a budgeted search for better settings of one candidate, with its trials as a table."""

from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    Config,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
)
from pydantic import Field

from sentiment_assets import keys
from sentiment_assets.defs.presentation import records
from sentiment_assets.failures import TrainingError
from sentiment_assets.reports.studies import write_study
from sentiment_assets.resources.provenance import read_provenance
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.resources.vectors import VectorCache
from sentiment_assets.schemas import TRAIN_TWEETS
from sentiment_assets.settings import Settings
from sentiment_assets.spark import delta
from sentiment_assets.spark.training import CANDIDATES, Candidate
from sentiment_assets.spark.tuning import ALGORITHM, FEATURES, Budget, Tried, best_of, search

CODE_VERSION = "1"
_SHOWN = 50


class TuningConfig(Config):
    """What is searched, and for how long."""

    candidate: str = Field(
        default="nb_ngrams_logistic_regression", description="Candidate whose settings are searched."
    )
    trials: int = Field(
        default=20, ge=1, le=1000, description="Trials in all; those of earlier runs on the same data count."
    )
    minutes: float = Field(
        default=60.0, gt=0, allow_inf_nan=False, description="No trial begins after so many minutes."
    )


@asset(
    key=keys.TUNING,
    deps=[AssetKey(keys.TRAIN_TWEETS)],
    group_name=keys.GROUP_SELECTION,
    kinds={"spark", "optuna"},
    owners=[keys.OWNER_ML],
    code_version=CODE_VERSION,
)
def tuning(
    context: AssetExecutionContext,
    config: TuningConfig,
    settings: ResourceParam[Settings],
    spark: ResourceParam[SparkResource],
    vector_cache: ResourceParam[VectorCache],
) -> MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
    """Better settings of one candidate: random first, then guided, what falls behind is stopped early.

    Measured on a slice of the training rows; the test rows are not touched. Trials are kept, so that a search that was
    interrupted goes on. `sentiment-assets train --tune` trains with the winner; in the UI, paste `run_config`.
    """
    candidate = CANDIDATES.get(config.candidate)
    if candidate is None:
        raise TrainingError(
            f"There is no candidate {config.candidate!r}.", f"Choose from: {', '.join(sorted(CANDIDATES))}."
        )
    vector_cache.clear()
    session = spark.session(context.instance, context.run.run_id)
    train_path = settings.table(TRAIN_TWEETS.name)
    provenance = read_provenance(train_path)

    def tell(trial: Tried, best: Tried | None) -> None:
        reached = "no figure" if trial.accuracy is None else f"{trial.accuracy:.4f} on {trial.rows:,} rows"
        leading = "" if best is None else f"; best {best.accuracy:.4f} (trial {best.number})"
        context.log.info(f"trial {trial.number + 1} of {config.trials}: {trial.state}, {reached}{leading}")

    trials = search(
        candidate,
        delta.read(session, train_path),
        storage=settings.trials,
        data_version=provenance.data_version,
        budget=Budget(config.trials, 60 * config.minutes),
        seed=settings.seed,
        on_trial=tell,
    )
    write_study(settings, f"trials-{provenance.data_version}-{candidate.name}", trials)
    best = best_of(trials)
    if best is None:
        raise TrainingError(
            f"No trial of {candidate.name} was fitted on all rows.",
            "Give the search more minutes or trials; it goes on where it stopped.",
        )
    ranked = sorted(trials, key=lambda t: (-t.rows, -(t.accuracy or 0.0)))
    return MaterializeResult(
        data_version=DataVersion(provenance.derive(candidate.name, best.parameters).data_version),
        metadata={
            "best_accuracy": MetadataValue.float(round(best.accuracy or 0.0, 4)),
            "best_trial": MetadataValue.int(best.number),
            "run_config": MetadataValue.json(run_config_of(candidate, best)),
            "trials": records([_row(trial) for trial in ranked[:_SHOWN]]),
            "source_note": MetadataValue.text(provenance.source_note),
        },
    )


def run_config_of(candidate: Candidate, trial: Tried) -> dict[str, Any]:
    """Run configuration that fits a candidate with the settings of a trial."""

    def config(prefix: str) -> dict[str, Any]:
        return {k.removeprefix(prefix): v for k, v in trial.parameters.items() if k.startswith(prefix)}

    return {
        "ops": {
            f"{keys.FEATURES}__{candidate.variant}": {"config": config(FEATURES)},
            f"{keys.CANDIDATES}__{candidate.name}": {"config": config(ALGORITHM)},
        }
    }


def _row(trial: Tried) -> dict[str, str | int | float | bool | None]:
    return {
        "trial": trial.number,
        "state": trial.state,
        "accuracy": None if trial.accuracy is None else round(trial.accuracy, 4),
        "rows": trial.rows,
        "seconds": round(trial.seconds, 1),
        "settings": ", ".join(f"{n} = {v}" for n, v in trial.parameters.items()) or "its own",
    }
