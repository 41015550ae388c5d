"""The maintenance job: compact and vacuum the training tables, remove old models. Nightly."""

from dagster import DefaultScheduleStatus, OpExecutionContext, ResourceParam, ScheduleDefinition, job, op

from sentiment_assets import keys
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.schemas import CLEANED_TWEETS, RAW_TWEETS, REJECTED_ROWS, TEST_TWEETS, TRAIN_TWEETS
from sentiment_assets.settings import Settings
from sentiment_assets.spark import delta
from sentiment_assets.streaming.serving import models_in_use

_TABLES = (RAW_TWEETS, REJECTED_ROWS, CLEANED_TWEETS, TRAIN_TWEETS, TEST_TWEETS)


@op(description="Fewer files for the training tables; files of versions older than seven days are deleted.")
def care_for_tables(
    context: OpExecutionContext,
    settings: ResourceParam[Settings],
    spark: ResourceParam[SparkResource],
) -> None:
    """The stream cares for its own tables: on a local disk a Delta table takes writers of one process only."""
    session = spark.session(context.instance, context.run.run_id)
    for table in _TABLES:
        path = settings.table(table.name)
        if not delta.table_exists(path):
            continue
        before = delta.file_stats(path)
        delta.compact(session, path)
        delta.vacuum(session, path)
        after = delta.file_stats(path)
        context.log.info(f"{table.name}: {before.files} files -> {after.files}, {after.bytes:,} bytes")


@op(description="Remove model versions that are neither recent nor chosen nor recently chosen.")
def remove_old_models(
    context: OpExecutionContext,
    settings: ResourceParam[Settings],
    model_store: ResourceParam[ModelStore],
) -> None:
    """Keep the newest three of each kind, what a rollback may want, and what scores just now."""
    removed = model_store.prune(in_use=models_in_use(settings))
    context.log.info(f"Removed {len(removed)} model versions.")


@job(
    name=keys.JOB_MAINTENANCE,
    description="Care for the training tables and the model store; the stream's tables are cared for by the stream.",
    # Shares the training runs' queue: both write the training tables.
    tags={keys.TAG_ROLE: keys.JOB_RETRAIN},
)
def maintenance() -> None:
    """All care that needs no stream."""
    care_for_tables()
    remove_old_models()


nightly_maintenance = ScheduleDefinition(
    job=maintenance,
    cron_schedule="30 3 * * *",
    name="nightly_maintenance",
    default_status=DefaultScheduleStatus.RUNNING,
)
