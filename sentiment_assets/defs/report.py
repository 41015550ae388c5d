"""``training_report``: the page that says which model was chosen and why."""

from dagster import (
    AssetExecutionContext,
    AssetKey,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
)

from sentiment_assets import keys
from sentiment_assets.models.store import ModelStore
from sentiment_assets.reports.pages import LATEST, origin, summary, write_page
from sentiment_assets.resources.reporting import current_report
from sentiment_assets.settings import Settings
from sentiment_assets.spark.training import CANDIDATES

CODE_VERSION = "1"


@asset(
    key=keys.TRAINING_REPORT,
    deps=[
        AssetKey(keys.CHOSEN_MODEL),
        AssetKey(keys.LEARNING_CURVE),
        *(AssetKey([keys.CANDIDATES, c.name]) for c in CANDIDATES.values()),
    ],
    group_name=keys.GROUP_SELECTION,
    kinds={"html"},
    owners=[keys.OWNER_ML],
    code_version=CODE_VERSION,
)
def training_report(
    context: AssetExecutionContext,
    settings: ResourceParam[Settings],
    model_store: ResourceParam[ModelStore],
) -> MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
    """Which model was chosen and why, as one self-contained page: open the file named in the metadata.

    Leaderboard, published figures beside ours, paired comparison, errors, curves, calibration, most telling terms,
    slowest steps, data and versions. It is made from what the candidates left in the model store; nothing is scored.
    """
    report = current_report(settings, model_store, context.instance)
    page = write_page(report, settings, origin("sentiment-assets train"))
    return MaterializeResult(
        data_version=DataVersion(report.chosen.manifest.version),
        metadata={
            "verdict": MetadataValue.md(summary(report)),
            "page": MetadataValue.path(str(page)),
            "open": MetadataValue.url(page.as_uri()),
            "latest": MetadataValue.path(str(settings.reports / LATEST)),
            "source_note": MetadataValue.text(report.chosen.manifest.source.note),
            "candidates": MetadataValue.int(len(report.entries)),
        },
    )
