"""``features/<variant>``: one fitted feature pipeline per variant, from a factory."""

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
)

from sentiment_assets import keys
from sentiment_assets.defs.configs import config_for, values_of
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.manifests import draft_of
from sentiment_assets.resources.provenance import read_provenance
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.resources.vectors import VectorCache
from sentiment_assets.schemas import TRAIN_TWEETS
from sentiment_assets.settings import Settings
from sentiment_assets.spark import delta
from sentiment_assets.spark.compiled.vectors import made_by
from sentiment_assets.spark.features import VARIANTS, Variant, fit_features


def build_feature_asset(variant: Variant, priority: int) -> AssetsDefinition:
    """The asset of one feature variant.

    Parameters
    ----------
    variant
        What is fitted.
    priority
        Steps of higher priority run first, which keeps a variant and its candidates together.
    """
    config_type = config_for(type(variant.defaults), f"{variant.name}_features")

    @asset(
        key=[keys.FEATURES, variant.name],
        deps=[AssetKey(keys.TRAIN_TWEETS)],
        group_name=keys.GROUP_FEATURES,
        kinds={"spark"},
        owners=[keys.OWNER_ML],
        code_version=variant.code_version,
        description=f"{variant.title}. {variant.description}",
        op_tags={"dagster/priority": str(priority)},
        metadata={"profile": variant.profile},
    )
    def features(
        context: AssetExecutionContext,
        config: config_type,  # type: ignore[valid-type]
        settings: ResourceParam[Settings],
        spark: ResourceParam[SparkResource],
        model_store: ResourceParam[ModelStore],
        vector_cache: ResourceParam[VectorCache],
    ) -> MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
        parameters = variant.params(values_of(config))
        session = spark.session(context.instance, context.run.run_id)
        train_path = settings.table(TRAIN_TWEETS.name)
        provenance = read_provenance(train_path)
        fitted = fit_features(variant, delta.read(session, train_path), parameters)
        figures = {
            "vocabulary_size": fitted.vocabulary_size,
            "mean_nonzero": fitted.mean_nonzero,
            "sparsity": fitted.sparsity,
            "seconds": fitted.seconds,
        }
        manifest = model_store.save(
            draft_of(
                "features",
                variant.name,
                variant=variant.name,
                code_version=variant.code_version,
                provenance=provenance,
                rows=delta.row_count(train_path),
                params=parameters.model_dump(),
                metrics=figures,
                seed=settings.seed,
                run_id=context.run.run_id,
            ),
            lambda folder: fitted.model.write().save(str(folder / "pipeline")),
        )
        vector_cache.remember(manifest.version, fitted)
        version = provenance.derive(variant.name, variant.code_version, parameters.model_dump_json())
        return MaterializeResult(
            data_version=DataVersion(version.data_version),
            metadata={
                "model_version": MetadataValue.text(manifest.version),
                "path": MetadataValue.path(str(model_store.folder(manifest.version))),
                "source_note": MetadataValue.text(provenance.source_note),
                "vectors_by": MetadataValue.text(made_by(fitted.model)),
                **figures,
            },
        )

    return features


def feature_assets() -> list[AssetsDefinition]:
    """All feature variants, in the order of their table."""
    return [build_feature_asset(variant, priority_of(variant.name)) for variant in VARIANTS.values()]


def priority_of(variant: str) -> int:
    """Priority of the steps of a variant: the later in the table, the later they run."""
    return 100 - 2 * list(VARIANTS).index(variant)
