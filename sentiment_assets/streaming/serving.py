"""The model that the stream serves: found, verified, loaded, by its compiled tables where they may serve.

Does not belong here: choosing it (``models``), compiling it (``compilation``), applying it (``spark.scoring``).
"""

import logging
from dataclasses import dataclass

import pyspark
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession

from sentiment_assets.failures import ModelError, first_line, last_line
from sentiment_assets.models.compatibility import require_fit
from sentiment_assets.models.manifest import Scorer
from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings
from sentiment_assets.spark.compiled.model import CompiledModel, made_with
from sentiment_assets.spark.features import VARIANTS
from sentiment_assets.spark.scoring import Model, score
from sentiment_assets.streaming.heartbeat import read_heartbeat, read_standby
from sentiment_assets.streaming.staging import models_of_jobs

log = logging.getLogger(__name__)

_PIPELINE = "pipeline"


@dataclass(frozen=True)
class Served:
    """A version ready to score.

    Attributes
    ----------
    version
        Its name.
    model
        What :func:`~sentiment_assets.spark.scoring.score` takes.
    scorer
        What scores and why, in words.
    band
        Half the width of the neutral band; 0: none.
    read_by_workers
        Whether the workers that score may read messages too (``writing.serve_stream``).
    """

    version: str
    model: Model
    scorer: str
    band: float = 0.0
    read_by_workers: bool = False


def version_to_serve(store: ModelStore, asked: str | None) -> str:
    """The version asked for, else the chosen one.

    Raises
    ------
    ModelError
        When none is chosen.
    """
    version = asked or store.chosen()
    if version is None:
        raise ModelError("No model is chosen.", "Run `sentiment-assets train` first.")
    return version


def check_fit(store: ModelStore, version: str) -> None:
    """Refuse a version that this installation must not serve; starts no JVM.

    Raises
    ------
    ModelError
        When it is unknown, or :func:`~..models.compatibility.require_fit` says so.
    """
    features = {name: variant.code_version for name, variant in VARIANTS.items()}
    require_fit(store.manifest(version), spark=pyspark.__version__, features=features)


def reason_not_to_serve(store: ModelStore) -> str | None:
    """Why what is chosen cannot be served here; ``None``: it can, as far as its manifest tells."""
    chosen = store.chosen()
    if chosen is None:
        return "no model is chosen yet"
    try:
        check_fit(store, chosen)
    except ModelError as error:
        return error.what
    return None


def models_in_use(settings: Settings) -> set[str]:
    """Versions that a stream scores with, or that a rescore or backfill may go on with."""
    streams = [beat for beat in (read_heartbeat(settings), read_standby(settings)) if beat and beat.running]
    return {beat.model_version for beat in streams if beat.model_version} | models_of_jobs(settings)


def neutral_band(settings: Settings, version: str) -> float:
    """Half the width of the band in which rows that a version scores are called neutral; 0: none.

    Raises
    ------
    ModelError
        When the version is unknown.
    """
    if settings.neutral_band == "off":
        return 0.0
    return float(ModelStore(settings.models).manifest(version).metrics.get("neutral_band", 0.0))


def serve(spark: SparkSession, settings: Settings, version: str) -> Served:
    """Make a version ready to score: by compiled tables that passed the gate and work here, else by its pipeline.

    Parameters
    ----------
    spark
        The session that will score. Its Python workers are started and load the kernel.

    Raises
    ------
    ModelError
        As :func:`load_model`.
    """
    store = ModelStore(settings.models)
    store.folder(version)
    check_fit(store, version)
    scorer, folder = store.scorer(version, deep=True)
    band = neutral_band(settings, version)
    reason = scorer.reason
    if scorer.compiled:
        compiled = CompiledModel(folder, settings.kernel_cache)
        obstacle = _obstacle(spark, scorer, compiled)
        if obstacle is None:
            return Served(version, compiled, scorer.title, band)
        reason = obstacle
    served = Served(version, load_model(store, version), f"MLlib pipeline ({reason})", band)
    log.warning("%s is scored by the slow way: %s", version, served.scorer)
    return served


def load_model(store: ModelStore, version: str) -> PipelineModel:
    """Load the pipeline of a version whose files are intact and that fits this Spark and these features.

    Raises
    ------
    ModelError
        When it is missing, damaged, no scoring model, or does not fit.
    """
    folder = store.folder(version)
    check_fit(store, version)
    try:
        return PipelineModel.load(str(folder / _PIPELINE))
    except (Py4JError, PySparkException, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The model {version} cannot be loaded ({type(error).__name__}: {first_line(error)}).",
            "Promote another version: `sentiment-assets models list`.",
        ) from error


def _obstacle(spark: SparkSession, scorer: Scorer, compiled: CompiledModel) -> str | None:
    """Why tables that passed the gate cannot serve in this session, or None."""
    here = made_with(spark)
    if scorer.made_with != here:
        return (
            f"it was compiled with {_words(scorer.made_with)}, here is {_words(here)}: "
            "`sentiment-assets models compile` mends that"
        )
    # On executors that lack the tables, numba or this package it would be the first batch that fails.
    empty = spark.range(0, 2, 1, 2).selectExpr("'' AS text")
    try:
        score(compiled, empty).collect()
    except PySparkException as error:
        log.warning("The compiled tables cannot be used: %s", error)
        return f"the kernel does not run here: {last_line(error)}"
    return None


def _words(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
