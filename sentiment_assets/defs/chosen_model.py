"""``chosen_model``: the leaderboard, the promotion gate, and the pointer the stream follows."""

from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    Config,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
    asset_check,
)
from pydantic import Field

from sentiment_assets import keys
from sentiment_assets.defs.presentation import records
from sentiment_assets.failures import ModelError
from sentiment_assets.models.manifest import Manifest, Scorer
from sentiment_assets.models.selection import decide_promotion, leakage, rank
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.provenance import Provenance, read_provenance
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.schemas import TEST_TWEETS, TRAIN_TWEETS
from sentiment_assets.settings import Settings
from sentiment_assets.spark import delta
from sentiment_assets.spark.evaluation import evaluate_halves
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.training import CANDIDATES
from sentiment_assets.streaming.compilation import compile_version, is_compiled_here
from sentiment_assets.streaming.serving import check_fit, models_in_use, serve

CODE_VERSION = "1"


class PromotionConfig(Config):
    """When a candidate replaces the chosen model."""

    minimum_gain: float | None = Field(
        default=None, ge=0, le=1, description="Accuracy to gain at least. Empty: SENTIMENT_MINIMUM_GAIN."
    )
    force: bool = Field(default=False, description="Promote the best candidate even without a gain.")


@asset(
    key=keys.CHOSEN_MODEL,
    deps=[AssetKey([keys.CANDIDATES, c.name]) for c in CANDIDATES.values()] + [AssetKey(keys.TEST_TWEETS)],
    group_name=keys.GROUP_SELECTION,
    kinds={"spark"},
    owners=[keys.OWNER_ML],
    code_version=CODE_VERSION,
)
def chosen_model(
    context: AssetExecutionContext,
    config: PromotionConfig,
    settings: ResourceParam[Settings],
    spark: ResourceParam[SparkResource],
    model_store: ResourceParam[ModelStore],
) -> MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the bare class only
    """The model that the stream loads.

    Candidates trained on the current data are ranked on the test half `selection`; the best one replaces
    the chosen model if it gains enough and nothing smells of leakage. The accuracy to quote is that of the
    half `report`, which no decision has seen.
    """
    provenance = read_provenance(settings.table(TRAIN_TWEETS.name))
    candidates = [
        found
        for c in CANDIDATES.values()
        if (found := model_store.latest("candidate", c.name, data_version=provenance.data_version))
        is not None
    ]
    if not candidates:
        raise ModelError(
            "No candidate was trained on the current train_tweets.", "Materialize a candidate first."
        )
    candidates = [c for c in candidates if _can_serve(context, model_store, c)]
    if not candidates:
        raise ModelError(
            "None of the candidates that were trained on the current train_tweets can be served.",
            "Materialize the features and the candidates again: `sentiment-assets train`.",
        )
    current = _current(context, settings, spark, model_store, provenance)
    ranked = rank(candidates)
    decision = decide_promotion(
        ranked,
        current,
        minimum_gain=settings.minimum_gain if config.minimum_gain is None else config.minimum_gain,
        leakage_ceiling=settings.leakage_ceiling,
        withdrawn=model_store.withdrawn(),
        force=config.force,
    )
    if decision.action == "refuse":
        raise ModelError(f"No candidate may be promoted: {decision.reason}", "Look for leakage in the data.")
    if decision.action == "promote" and decision.version is not None:
        model_store.folder(decision.version, deep=True)
        # Before the pointer moves: the stream takes up the new version as it finds it.
        _compile(context, settings, spark, model_store, decision.version)
        model_store.promote(decision.version, reason=decision.reason)
    version = model_store.chosen()
    if version is None:
        raise ModelError("No model is chosen.", "Materialize the candidates, then chosen_model.")
    chosen = model_store.manifest(version)
    scorer = _compile(context, settings, spark, model_store, version)
    model_store.prune(in_use=models_in_use(settings))
    return MaterializeResult(
        data_version=DataVersion(version),
        metadata={
            **{
                f"report_{name}": _shown(chosen.metrics[f"report_{name}"])
                for name in ("accuracy", "ci95_low", "ci95_high", "n", "macro_f1", "auc")
                if f"report_{name}" in chosen.metrics
            },
            "decision": MetadataValue.text(f"{decision.action}: {decision.reason}"),
            "source_note": MetadataValue.text(chosen.source.note),
            "leaderboard": records([_row(m, version) for m in ranked]),
            "trained_on_rows": MetadataValue.int(chosen.rows_train),
            "model_version": MetadataValue.text(version),
            "scorer": MetadataValue.text(scorer.title),
            "path": MetadataValue.path(str(model_store.folder(version))),
        },
    )


def _can_serve(context: AssetExecutionContext, model_store: ModelStore, candidate: Manifest) -> bool:
    """Whether the stream could load it: one of an older release, or with missing files, is passed over."""
    try:
        model_store.folder(candidate.version)
        check_fit(model_store, candidate.version)
    except ModelError as error:
        context.log.warning(f"{candidate.version} cannot be served and is passed over: {error}")
        return False
    return True


def _compile(
    context: AssetExecutionContext,
    settings: Settings,
    spark: SparkResource,
    model_store: ModelStore,
    version: str,
) -> Scorer:
    """Compile a version unless that was done, and show on held-out rows and hostile texts that it scores the same."""
    scorer, _ = model_store.scorer(version)
    session = spark.session(context.instance, context.run.run_id)
    if not is_compiled_here(session, scorer):
        held_out = delta.read(session, settings.table(TEST_TWEETS.name))
        scorer = compile_version(session, settings, version, held_out)
    if not scorer.compiled:
        context.log.warning(f"{version} is served by its {scorer.title}.")
    return scorer


def _shown(figure: float) -> float:
    """A figure as the UI shows it: whole numbers stay whole, others get four decimals."""
    return figure if isinstance(figure, int) else round(figure, 4)


def _current(
    context: AssetExecutionContext,
    settings: Settings,
    spark: SparkResource,
    model_store: ModelStore,
    provenance: Provenance,
) -> Manifest | None:
    """The chosen model with its metrics on the current test rows: scored anew when the data has changed.

    Equal texts stand on the same side of every split by one seed and fraction, so an older model has not seen these
    rows. After a change of these it has seen many, so it has no figures to be compared by.
    """
    version = model_store.chosen()
    if version is None:
        return None
    try:
        manifest = model_store.manifest(version)
        model_store.folder(version)
        check_fit(model_store, version)
    except ModelError as error:
        # It cannot be loaded by the stream either; a sound candidate has to be able to replace it.
        context.log.warning(f"The chosen model {version} cannot be served and counts as none: {error}")
        return None
    if manifest.data_version == provenance.data_version:
        return manifest
    if manifest.seed != provenance.split_seed(settings) or manifest.test_fraction not in (
        None,
        provenance.test_fraction,
    ):
        context.log.warning(
            f"{version} was trained with another split: it has learned from test rows of this one."
        )
        return manifest.with_metrics({})
    session = spark.session(context.instance, context.run_id)
    model = serve(session, settings, version).model
    test = delta.read(session, settings.table(TEST_TWEETS.name))
    context.log.info(f"Scoring the chosen model {version} on the current test rows.")
    return manifest.with_metrics(evaluate_halves(score(model, test)).as_dict())


def _row(manifest: Manifest, chosen: str) -> dict[str, Any]:
    m = manifest.metrics
    return {
        "chosen": "yes" if manifest.version == chosen else "",
        "candidate": manifest.name,
        "selection accuracy": round(m["selection_accuracy"], 4),
        "report accuracy": round(m["report_accuracy"], 4),
        "report 95 % interval": f"{m['report_ci95_low']:.4f} - {m['report_ci95_high']:.4f}",
        "report n": m["report_n"],
        "macro-F1": round(m["macro_f1"], 4),
        "AUC": round(m["auc"], 4),
        "fit seconds": round(m["fit_seconds"], 1),
        "version": manifest.version,
    }


@asset_check(asset=AssetKey(keys.CHOSEN_MODEL), blocking=True)
def promotion_is_sound(
    context: AssetCheckExecutionContext,  # noqa: ARG001
    settings: ResourceParam[Settings],
    model_store: ResourceParam[ModelStore],
) -> AssetCheckResult:
    """The chosen version is complete, byte for byte, and below the leakage ceiling; else nothing follows it."""
    version = model_store.chosen()
    if version is None:
        return AssetCheckResult(passed=False, description="No model is chosen.")
    try:
        model_store.folder(version, deep=True)
    except ModelError as error:
        return AssetCheckResult(passed=False, description=str(error))
    manifest = model_store.manifest(version)
    leak = leakage(manifest, settings.leakage_ceiling)
    return AssetCheckResult(
        passed=leak is None,
        description=leak,
        metadata={
            "accuracy": float(manifest.metrics["accuracy"]),
            "ceiling": settings.leakage_ceiling,
            "model_version": version,
        },
    )
