"""``cleaned_tweets`` and its two parts, ``train_tweets`` and ``test_tweets``."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetIn,
    AssetKey,
    AssetOut,
    Config,
    DataVersion,
    MetadataValue,
    Output,
    ResourceParam,
    asset,
    multi_asset,
)
from pydantic import Field

from sentiment_assets import keys
from sentiment_assets.defs.presentation import table_metadata
from sentiment_assets.failures import TrainingError
from sentiment_assets.resources.delta_io import PROVENANCE
from sentiment_assets.resources.orphans import note_process
from sentiment_assets.resources.provenance import Provenance, read_provenance
from sentiment_assets.schemas import CLEANED_TWEETS, RAW_TWEETS, TEST_TWEETS, TRAIN_TWEETS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.cleaning import deduplicate, split

CLEANING_VERSION = "1"
SPLIT_VERSION = "1"


@asset(
    key=keys.CLEANED_TWEETS,
    group_name=keys.GROUP_INGEST,
    kinds={"spark", "deltalake"},
    owners=[keys.OWNER_DATA],
    io_manager_key="delta_io",
    code_version=CLEANING_VERSION,
    metadata=table_metadata(CLEANED_TWEETS),
)
def cleaned_tweets(
    context: AssetExecutionContext,
    raw_tweets: Any,
    settings: ResourceParam[Settings],
) -> Iterator[Output[Any]]:
    """Deduplicated tweets: conflicting ids, exact and normalised duplicates are gone, each counted."""
    note_process(context.instance, context.run.run_id)
    provenance = read_provenance(settings.table(RAW_TWEETS.name)).derive(CLEANING_VERSION)
    cleaned = deduplicate(raw_tweets)
    counts = cleaned.counts()
    if not counts["rows_out"]:
        dropped = ", ".join(
            f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if n and name != "rows_in"
        )
        raise TrainingError(
            f"None of the {counts['rows_in']:,} tweets is left after cleaning ({dropped}).",
            "Look at the column text of the file: there is nothing in it to learn from.",
        )
    yield Output(
        cleaned.tweets,
        data_version=DataVersion(provenance.data_version),
        metadata={
            PROVENANCE: MetadataValue.json(provenance.as_dict()),
            "source_note": MetadataValue.text(provenance.source_note),
            **{name: MetadataValue.int(count) for name, count in counts.items()},
        },
    )
    cleaned.release()


class SplitConfig(Config):
    """How the rows are divided."""

    test_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of each label set aside for tests."
    )


def split_provenance(settings: Settings, test_fraction: float) -> Provenance:
    """What both parts are made of, if ``cleaned_tweets`` is split as it is now."""
    derived = read_provenance(settings.table(CLEANED_TWEETS.name)).derive(
        SPLIT_VERSION, test_fraction, settings.seed
    )
    return replace(derived, test_fraction=test_fraction, seed=settings.seed)


@multi_asset(
    name="split_tweets",
    ins={"cleaned_tweets": AssetIn(keys.CLEANED_TWEETS)},
    outs={
        table.name: AssetOut(
            key=AssetKey(table.name),
            description=table.comment,
            group_name=keys.GROUP_INGEST,
            kinds={"spark", "deltalake"},
            owners=[keys.OWNER_DATA],
            io_manager_key="delta_io",
            code_version=SPLIT_VERSION,
            metadata=table_metadata(table),
        )
        for table in (TRAIN_TWEETS, TEST_TWEETS)
    },
)
def split_tweets(
    context: AssetExecutionContext,
    config: SplitConfig,
    cleaned_tweets: Any,
    settings: ResourceParam[Settings],
) -> Iterator[Output[Any]]:
    """Seeded split by the hash of the normalised text: equal texts never stand on both sides."""
    note_process(context.instance, context.run.run_id)
    provenance = split_provenance(settings, config.test_fraction)
    train, test = split(cleaned_tweets, test_fraction=config.test_fraction, seed=settings.seed)
    for table, frame in ((TRAIN_TWEETS, train), (TEST_TWEETS, test)):
        yield Output(
            frame,
            output_name=table.name,
            data_version=DataVersion(provenance.data_version),
            metadata={
                PROVENANCE: MetadataValue.json(provenance.as_dict()),
                "source_note": MetadataValue.text(provenance.source_note),
                "test_fraction": MetadataValue.float(config.test_fraction),
                "seed": MetadataValue.int(settings.seed),
            },
        )
