"""Whether a stored model fits the code that would serve it, told from its manifest alone.

Spark reads pipelines of its own release line. Features are part of the pipeline, but what reads them out of it
(explanations, fast scorers, the next training) knows those of today's code.
Does not belong here: whether its files are intact (``store``).
"""

from collections.abc import Mapping

from sentiment_assets.failures import ModelError
from sentiment_assets.models.manifest import Manifest

_NEXT_STEP = (
    "Train it anew with `sentiment-assets train`, or install the version of sentiment-assets that made it."
)


def require_fit(manifest: Manifest, *, spark: str, features: Mapping[str, str]) -> None:
    """Refuse a model that this installation must not serve.

    Parameters
    ----------
    manifest
        Of the model.
    spark
        Version of Spark here.
    features
        Code version by feature variant here. A variant that is not among them says nothing.

    Raises
    ------
    ModelError
        When it cannot score, was written by another release line of Spark, or learned from features that the
        code makes differently by now.
    """
    if manifest.kind != "candidate":
        raise ModelError(
            f"{manifest.version} is a feature pipeline and cannot score.",
            "Name a candidate: `sentiment-assets models list`.",
        )
    require_same_spark(manifest, spark)
    learned, here = features_version(manifest), features.get(manifest.variant)
    if here is not None and learned != here:
        raise ModelError(
            f"The model {manifest.version} learned from version {learned} of the features {manifest.variant}, "
            f"this installation has version {here}.",
            _NEXT_STEP,
        )


def require_same_spark(manifest: Manifest, spark: str) -> None:
    """Refuse a pipeline, of features or of a candidate, that another release line of Spark wrote.

    Raises
    ------
    ModelError
        When major or minor number differ.
    """
    wrote = manifest.pins.get("pyspark", "unknown")
    if _release_line(wrote) != _release_line(spark):
        raise ModelError(
            f"The model {manifest.version} was written by Spark {wrote}, this is Spark {spark}.", _NEXT_STEP
        )


def features_version(manifest: Manifest) -> str:
    """Code version of the features that a candidate was fitted on: all but the last part of its own."""
    return manifest.code_version.rpartition(".")[0]


def _release_line(version: str) -> list[str]:
    """Major and minor number."""
    return version.split(".")[:2]
