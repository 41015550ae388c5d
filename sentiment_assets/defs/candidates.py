"""``candidates/<variant>_<algorithm>``: one model per cell of the table, from a factory."""

import time
from pathlib import Path

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
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
from sentiment_assets.defs.features import priority_of
from sentiment_assets.defs.presentation import metrics_metadata
from sentiment_assets.models.selection import leakage
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.manifests import draft_of
from sentiment_assets.resources.provenance import same_provenance
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.resources.vectors import VectorCache
from sentiment_assets.schemas import TEST_TWEETS, TRAIN_TWEETS
from sentiment_assets.settings import Settings
from sentiment_assets.spark import delta
from sentiment_assets.spark.evaluation import collect_scores, halves_of
from sentiment_assets.spark.evidence import write_evidence
from sentiment_assets.spark.explain import telling_terms
from sentiment_assets.spark.features import VARIANTS
from sentiment_assets.spark.neutral import trust_of
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.training import ALGORITHMS, CANDIDATES, Candidate, fit_candidate

LEAKAGE_CHECK = "no_leakage"


def build_candidate_asset(candidate: Candidate) -> AssetsDefinition:
    """The asset of one candidate: fits on the train rows, is scored once on the test rows."""
    variant, algorithm = VARIANTS[candidate.variant], ALGORITHMS[candidate.algorithm]
    config_type = config_for(type(candidate.params()), f"{candidate.name}_config", candidate.overrides)
    key = AssetKey([keys.CANDIDATES, candidate.name])

    @asset(
        key=key,
        deps=[
            AssetKey([keys.FEATURES, variant.name]),
            AssetKey(keys.TRAIN_TWEETS),
            AssetKey(keys.TEST_TWEETS),
        ],
        group_name=keys.GROUP_CANDIDATES,
        kinds={"spark"},
        owners=[keys.OWNER_ML],
        code_version=f"{variant.code_version}.{algorithm.code_version}",
        description=f"{algorithm.title} on {variant.title[0].lower()}{variant.title[1:]}.",
        op_tags={"dagster/priority": str(priority_of(variant.name) - 1)},
        metadata={"profile": candidate.profile},
        check_specs=[
            AssetCheckSpec(
                LEAKAGE_CHECK,
                asset=key,
                description="Accuracy above the ceiling means leakage, not skill; such a candidate is never promoted.",
            )
        ],
    )
    def candidate_model(
        context: AssetExecutionContext,
        config: config_type,  # type: ignore[valid-type]
        settings: ResourceParam[Settings],
        spark: ResourceParam[SparkResource],
        model_store: ResourceParam[ModelStore],
        vector_cache: ResourceParam[VectorCache],
    ) -> MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
        parameters = algorithm.params(values_of(config))
        session = spark.session(context.instance, context.run.run_id)
        train_path, test_path = settings.table(TRAIN_TWEETS.name), settings.table(TEST_TWEETS.name)
        provenance = same_provenance(train_path, test_path)
        features_version, features = vector_cache.features(variant.name, provenance.data_version)
        vectors = vector_cache.vectors(features, delta.read(session, train_path))
        begun = time.monotonic()
        model = fit_candidate(features.model, vectors, algorithm, parameters, seed=settings.seed)
        fit_seconds = time.monotonic() - begun
        scores = collect_scores(score(model, delta.read(session, test_path)))
        metrics = halves_of(scores).as_dict() | trust_of(scores)
        figures = {**metrics, "fit_seconds": fit_seconds, "features_seconds": features.seconds}
        terms = telling_terms(model)

        def write(folder: Path) -> None:
            model.write().save(str(folder / "pipeline"))
            write_evidence(folder, scores, terms)

        manifest = model_store.save(
            draft_of(
                "candidate",
                candidate.name,
                variant=variant.name,
                algorithm=algorithm.name,
                code_version=f"{variant.code_version}.{algorithm.code_version}",
                provenance=provenance,
                rows=delta.row_count(train_path),
                params=parameters.model_dump() | {"features": features_version},
                metrics=figures,
                seed=provenance.split_seed(settings),
                run_id=context.run.run_id,
            ),
            write,
        )
        leak = leakage(manifest, settings.leakage_ceiling)
        return MaterializeResult(
            data_version=DataVersion(
                provenance.derive(
                    features_version, algorithm.code_version, parameters.model_dump_json()
                ).data_version
            ),
            metadata={
                **metrics_metadata(figures),
                "trained_on_rows": MetadataValue.int(manifest.rows_train),
                "source_note": MetadataValue.text(provenance.source_note),
                "model_version": MetadataValue.text(manifest.version),
                "path": MetadataValue.path(str(model_store.folder(manifest.version))),
            },
            check_results=[
                AssetCheckResult(
                    check_name=LEAKAGE_CHECK,
                    passed=leak is None,
                    severity=AssetCheckSeverity.ERROR,
                    description=leak,
                    metadata={"accuracy": metrics["accuracy"], "ceiling": settings.leakage_ceiling},
                )
            ],
        )

    return candidate_model


def candidate_assets() -> list[AssetsDefinition]:
    """All candidates, in the order of the table."""
    return [build_candidate_asset(candidate) for candidate in CANDIDATES.values()]
