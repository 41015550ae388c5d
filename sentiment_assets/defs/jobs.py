"""The jobs: what is materialized together, and the executor of all."""

from dagster import AssetSelection, define_asset_job

from sentiment_assets import keys
from sentiment_assets.spark.training import CANDIDATES

_INGEST = AssetSelection.assets(keys.RAW_TWEETS, keys.CLEANED_TWEETS, keys.TRAIN_TWEETS, keys.TEST_TWEETS)


def _training(profile: str | None) -> AssetSelection:
    """Everything from the raw tweets to the chosen model and its report, for one profile or for all candidates."""
    chosen = [c for c in CANDIDATES.values() if profile is None or c.profile == profile]
    candidates = AssetSelection.assets(*([keys.CANDIDATES, c.name] for c in chosen))
    features = AssetSelection.assets(*({(keys.FEATURES, c.variant): None for c in chosen}))
    studies = [keys.LEARNING_CURVE] if profile is None else []
    result = AssetSelection.assets(keys.CHOSEN_MODEL, *studies, keys.TRAINING_REPORT)
    return _INGEST | features | candidates | result


ingest = define_asset_job(
    keys.JOB_INGEST,
    _INGEST,
    description="Read the labelled tweets, clean and split them.",
    tags={keys.TAG_ROLE: keys.JOB_RETRAIN},
)
retrain = define_asset_job(
    keys.JOB_RETRAIN,
    _training("quick"),
    description="From raw tweets to the chosen model with the few candidates that matter.",
    tags={keys.TAG_ROLE: keys.JOB_RETRAIN},
)
retrain_full = define_asset_job(
    keys.JOB_RETRAIN_FULL,
    _training(None),
    description="From raw tweets to the chosen model with every candidate of the table.",
    tags={keys.TAG_ROLE: keys.JOB_RETRAIN},
)
tune = define_asset_job(
    keys.JOB_TUNE,
    _INGEST | AssetSelection.assets(keys.TUNING),
    description="Search for better settings of one candidate, on a slice of the training tweets.",
    tags={keys.TAG_ROLE: keys.JOB_RETRAIN},
)
score_stream = define_asset_job(
    keys.JOB_SCORE_STREAM,
    AssetSelection.assets(keys.PREDICTIONS, keys.DEAD_LETTERS),
    description="One lease of the stream; the sensor stream_supervisor launches it again and again.",
    tags={keys.TAG_ROLE: keys.JOB_SCORE_STREAM},
)
