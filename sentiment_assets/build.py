"""All definitions, from one function that production and tests call alike."""

import warnings
from collections.abc import Mapping
from typing import Any

from dagster import BetaWarning, Definitions, in_process_executor

from sentiment_assets.defs.candidates import candidate_assets
from sentiment_assets.defs.checks import table_checks
from sentiment_assets.defs.chosen_model import chosen_model, promotion_is_sound
from sentiment_assets.defs.cleaned import cleaned_tweets, split_tweets
from sentiment_assets.defs.features import feature_assets
from sentiment_assets.defs.jobs import ingest, retrain, retrain_full, score_stream, tune
from sentiment_assets.defs.learning import learning_curve
from sentiment_assets.defs.maintenance import maintenance, nightly_maintenance
from sentiment_assets.defs.predictions import stream, supervisor_sensor
from sentiment_assets.defs.raw import raw_tweets
from sentiment_assets.defs.report import training_report
from sentiment_assets.defs.sinks import sink_assets, sink_jobs, sink_sensors
from sentiment_assets.defs.topic import topic_lag_sensor, tweets_topic
from sentiment_assets.defs.tuning import tuning
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.delta_io import DeltaTableIOManager
from sentiment_assets.resources.kafka import KafkaResource
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.resources.vectors import VectorCache
from sentiment_assets.settings import Settings

# `Output.data_version` is in beta; the pinned Dagster has it, and the warning would repeat in every run's log.
warnings.filterwarnings("ignore", category=BetaWarning)


def build_resources(settings: Settings) -> dict[str, Any]:
    """The resources by key; none does anything before it is used."""
    spark = SparkResource(settings, "training")
    store = ModelStore(settings.models)
    return {
        "settings": settings,
        "spark": spark,
        "stream_spark": SparkResource(settings, "stream"),
        "delta_io": DeltaTableIOManager(settings, spark),
        "model_store": store,
        "kafka": KafkaResource(settings),
        "vector_cache": VectorCache(store),
    }


def build_definitions(
    settings: Settings, *, resource_overrides: Mapping[str, Any] | None = None
) -> Definitions:
    """The code location.

    Nothing is read, started or opened here; resources begin their work inside a run.

    Parameters
    ----------
    settings
        Installation settings.
    resource_overrides
        Resource key -> another object of the same kind, for an installation that replaces one.
    """
    jobs_of_sinks = sink_jobs(settings)
    return Definitions(
        assets=[
            raw_tweets,
            cleaned_tweets,
            split_tweets,
            *feature_assets(),
            *candidate_assets(),
            chosen_model,
            learning_curve,
            tuning,
            training_report,
            tweets_topic,
            stream,
            *sink_assets(settings),
        ],
        asset_checks=[*table_checks(), promotion_is_sound],
        jobs=[ingest, retrain, retrain_full, tune, score_stream, maintenance, *jobs_of_sinks],
        sensors=[supervisor_sensor(settings), topic_lag_sensor(), *sink_sensors(settings, jobs_of_sinks)],
        schedules=[nightly_maintenance],
        resources=build_resources(settings) | dict(resource_overrides or {}),
        # One process, one Spark session a run: three trivial Spark assets take 25 s, with a process each 76 s.
        executor=in_process_executor,
    )
