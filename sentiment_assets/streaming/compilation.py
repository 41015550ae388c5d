"""A stored version gets its compiled tables, and the proof that they may serve in place of its pipeline.

Belongs here: the gate: compile, score texts both ways, record the outcome beside the version.
Does not belong here: when (``defs.chosen_model``), serving (``serving``).
"""

import logging
from pathlib import Path

from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession

from sentiment_assets.failures import first_line
from sentiment_assets.models.manifest import Scorer
from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings, is_local
from sentiment_assets.spark.compiled.agreement import compare, hostile_texts
from sentiment_assets.spark.compiled.counting import FAILURES
from sentiment_assets.spark.compiled.export import NotCompilableError, export_tables, frequent_terms
from sentiment_assets.spark.compiled.model import CompiledModel, made_with
from sentiment_assets.streaming.serving import load_model

log = logging.getLogger(__name__)

HELD_OUT_TEXTS = 4_000
"""Texts of the test rows that are scored both ways: two seconds of the pipeline."""
_TERMS = 5_000


class _FailedError(Exception):
    """Compiling went wrong, which says nothing about the model."""


def is_compiled_here(spark: SparkSession, scorer: Scorer) -> bool:
    """Whether a version was already taken through the gate by this compiler, Java and Spark, with whatever outcome."""
    return scorer.made_with == made_with(spark)


def compile_version(
    spark: SparkSession, settings: Settings, version: str, held_out: DataFrame | None = None
) -> Scorer:
    """Compile a stored version, compare it with its pipeline, and keep the tables if both agree.

    Parameters
    ----------
    version
        A candidate; any that has no kernel is recorded as served by its pipeline, with the reason.
    held_out
        Real texts to compare on (column ``text``), beside the hostile ones.

    Returns
    -------
    Scorer
        As recorded.

    Raises
    ------
    ModelError
        When the version is missing or cannot be loaded, or the store cannot be written.
    """
    store = ModelStore(settings.models)
    if not is_local(store.root):
        return store.scorer(version)[0]
    pipeline = load_model(store, version)

    def write(folder: Path) -> Scorer:
        try:
            return _compiled(spark, settings, pipeline, held_out, folder)
        except NotCompilableError as error:
            return _by_pipeline(spark, str(error))
        except (*FAILURES, ImportError) as error:
            log.warning("%s cannot be compiled: %s", version, error)
            raise _FailedError(first_line(error)) from error

    try:
        scorer = store.attach_scorer(version, write)
    except _FailedError as error:
        # Perhaps for this time only: tables that serve stay, and no verdict is recorded, so it is tried again.
        failed = Scorer(compiled=False, reason=f"compiling it failed: {error}")
        scorer, _ = store.scorer(version)
        if not scorer.compiled:
            scorer = store.attach_scorer(version, lambda _folder: failed)
    log.info("%s is scored by: %s", version, scorer.title)
    return scorer


def _compiled(
    spark: SparkSession,
    settings: Settings,
    pipeline: PipelineModel,
    held_out: DataFrame | None,
    folder: Path,
) -> Scorer:
    export_tables(pipeline).save(folder)
    hostile = hostile_texts(frequent_terms(pipeline, _TERMS), seed=settings.seed)
    texts = spark.createDataFrame([(text,) for text in hostile], "text STRING")
    if held_out is not None:
        texts = texts.union(held_out.select("text").limit(HELD_OUT_TEXTS))
    parts = spark.sparkContext.defaultParallelism
    found = compare(pipeline, CompiledModel(folder, settings.kernel_cache), texts.repartition(parts))
    shown = f"{found.rows:,} texts, {found.labels_differ} other labels, largest difference {found.max_difference:.1e}"
    return Scorer(
        compiled=found.holds,
        reason=shown if found.holds else f"the compiled tables do not agree with it: {shown}",
        made_with=made_with(spark),
        rows=found.rows,
        labels_differ=found.labels_differ,
        max_difference=found.max_difference,
    )


def _by_pipeline(spark: SparkSession, reason: str) -> Scorer:
    return Scorer(compiled=False, reason=reason, made_with=made_with(spark))
