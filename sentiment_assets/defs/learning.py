"""``learning_curve``: the chosen configuration on parts of the training rows; part of the full profile only."""

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
from sentiment_assets.defs.presentation import records
from sentiment_assets.models.store import ModelStore
from sentiment_assets.reports.studies import LearningPoint, write_study
from sentiment_assets.resources.provenance import read_provenance
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.resources.vectors import VectorCache
from sentiment_assets.schemas import TEST_TWEETS, TRAIN_TWEETS
from sentiment_assets.settings import Settings
from sentiment_assets.spark import delta
from sentiment_assets.spark.evaluation import REPORT
from sentiment_assets.spark.features import VARIANTS
from sentiment_assets.spark.learning import FRACTIONS, learn_parts
from sentiment_assets.spark.training import ALGORITHMS

CODE_VERSION = "1"


@asset(
    key=keys.LEARNING_CURVE,
    deps=[AssetKey(keys.CHOSEN_MODEL), AssetKey(keys.TRAIN_TWEETS), AssetKey(keys.TEST_TWEETS)],
    group_name=keys.GROUP_SELECTION,
    kinds={"spark"},
    owners=[keys.OWNER_ML],
    code_version=CODE_VERSION,
    metadata={"profile": "full"},
)
def learning_curve(
    context: AssetExecutionContext,
    settings: ResourceParam[Settings],
    spark: ResourceParam[SparkResource],
    model_store: ResourceParam[ModelStore],
    vector_cache: ResourceParam[VectorCache],
) -> MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
    """Accuracy of the chosen configuration on 10, 25, 50 and 100 % of the training rows.

    Measured on the test half `report`. It trains the model three times more, so the quick profile leaves it out.
    """
    version = model_store.chosen() or ""
    chosen = model_store.manifest(version)
    vector_cache.clear()
    session = spark.session(context.instance, context.run.run_id)
    train_path = settings.table(TRAIN_TWEETS.name)
    test = delta.read(session, settings.table(TEST_TWEETS.name)).where(f"half = '{REPORT}'")
    variant, algorithm = VARIANTS[chosen.variant], ALGORITHMS[chosen.algorithm]
    features = model_store.manifest(str(chosen.params["features"]))
    points = []
    # The chosen model is the last point itself, unless it was trained on other rows.
    same_rows = chosen.data_version == read_provenance(train_path).data_version
    for part in learn_parts(
        (variant, variant.params(features.params)),
        (algorithm, algorithm.params({k: v for k, v in chosen.params.items() if k != "features"})),
        delta.read(session, train_path),
        test,
        fractions=FRACTIONS[:-1] if same_rows else FRACTIONS,
        seed=chosen.seed,
    ):
        context.log.info(f"{part.rows:,} rows: accuracy {part.metrics.accuracy:.4f}")
        points.append(
            LearningPoint(
                rows=part.rows,
                accuracy=part.metrics.accuracy,
                ci95_low=part.metrics.ci95_low,
                ci95_high=part.metrics.ci95_high,
                n=part.metrics.n,
                seconds=part.seconds,
            )
        )
    if same_rows:
        figures = chosen.metrics
        points.append(
            LearningPoint(
                rows=chosen.rows_train,
                **{name: figures[f"{REPORT}_{name}"] for name in ("accuracy", "ci95_low", "ci95_high", "n")},
                seconds=figures["features_seconds"] + figures["fit_seconds"],
            )
        )
    write_study(settings, f"learning_curve-{version}", points)
    return MaterializeResult(
        data_version=DataVersion(version),
        metadata={
            "points": records([p.model_dump() for p in points]),
            "source_note": MetadataValue.text(chosen.source.note),
            "model_version": MetadataValue.text(version),
        },
    )
