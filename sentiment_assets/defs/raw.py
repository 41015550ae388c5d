"""``raw_tweets``: the labelled tweets as their source gives them."""

from pathlib import Path
from typing import Any

from dagster import AssetExecutionContext, Config, DataVersion, MetadataValue, Output, ResourceParam, asset
from pydantic import Field

from sentiment_assets import keys
from sentiment_assets.defs.presentation import table_metadata
from sentiment_assets.resources.delta_io import PROVENANCE
from sentiment_assets.resources.orphans import note_process
from sentiment_assets.resources.provenance import Provenance
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.schemas import RAW_TWEETS, REJECTED_ROWS
from sentiment_assets.settings import Settings
from sentiment_assets.sources import resolve
from sentiment_assets.sources.sentiment140 import inspect
from sentiment_assets.spark import delta
from sentiment_assets.spark.raw import read_raw, version_of

CODE_VERSION = "1"


class RawTweetsConfig(Config):
    """Where the labelled tweets come from."""

    data: str | None = Field(
        default=None,
        description="A CSV or zip in Sentiment140's format, or 'sample' for the generated sample. "
        "Empty: SENTIMENT_DATA, else the published file, else (unreachable) the generated sample.",
    )
    rows: int | None = Field(
        default=None,
        ge=0,
        description="Train on a seeded sample of so many rows; 0: all. Empty: SENTIMENT_TRAIN_ROWS, else all.",
    )
    encoding: str | None = Field(
        default=None,
        description="ISO-8859-1 or UTF-8. Empty: SENTIMENT_ENCODING for a file of yours, else ISO-8859-1.",
    )


def raw_version(settings: Settings, path: Path, rows: int | None, encoding: str) -> str:
    """Data version that the asset would have if it read this file now; reads all of the file, starts no JVM.

    Raises
    ------
    SourceError
        When the file cannot be used.
    """
    found = inspect(path, encoding=encoding)
    return version_of(found, rows=rows, encoding=encoding, seed=settings.seed, code_version=CODE_VERSION)


@asset(
    key=keys.RAW_TWEETS,
    group_name=keys.GROUP_INGEST,
    kinds={"spark", "deltalake"},
    owners=[keys.OWNER_DATA],
    io_manager_key="delta_io",
    code_version=CODE_VERSION,
    metadata=table_metadata(RAW_TWEETS),
)
def raw_tweets(
    context: AssetExecutionContext,
    config: RawTweetsConfig,
    settings: ResourceParam[Settings],
    spark: ResourceParam[SparkResource],
) -> Output[Any]:
    """Sentiment140's labelled tweets in Delta.

    The file is inspected before anything is replaced: a missing, truncated, wrongly encoded or one-class
    file stops here and the last good table stays. Rows that cannot be used are kept in `rejected_rows`
    with the reason.
    """
    # A download takes minutes, in which a run without this note would be taken for dead.
    note_process(context.instance, context.run.run_id)
    source = resolve(settings, config.data, context.log.info)
    context.log.info(f"{source.path.name}: {source.note}")
    encoding = config.encoding or source.encoding
    rows = settings.rows_to_train() if config.rows is None else config.rows or None
    found = inspect(source.path, encoding=encoding)
    session = spark.session(context.instance, context.run.run_id)
    read = read_raw(session, found.path, encoding=encoding, rows=rows, seed=settings.seed, uri=source.uri)
    delta.overwrite(read.rejected, settings.table(REJECTED_ROWS.name), REJECTED_ROWS)
    sample = f"seeded sample of at most {rows:,} rows" if rows else "all rows"
    provenance = Provenance(
        data_version=version_of(
            found, rows=rows, encoding=encoding, seed=settings.seed, code_version=CODE_VERSION
        ),
        source_kind=source.kind,
        source_file=source.path.name,
        source_note=source.note,
        sample=sample,
    )
    return Output(
        read.tweets,
        data_version=DataVersion(provenance.data_version),
        metadata={
            PROVENANCE: MetadataValue.json(provenance.as_dict()),
            "source_note": MetadataValue.text(source.note),
            "source_sha256": MetadataValue.text(found.sha256),
            "rejected_rows": MetadataValue.int(delta.row_count(settings.table(REJECTED_ROWS.name))),
        },
    )
