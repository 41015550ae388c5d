"""The model that the stream serves: found, verified, loaded.

Does not belong here: choosing it (``models``), applying it (``spark.scoring``).
"""

import pyspark
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.ml import PipelineModel

from sentiment_assets.failures import ModelError
from sentiment_assets.models.compatibility import require_fit
from sentiment_assets.models.store import ModelStore
from sentiment_assets.spark.features import VARIANTS

_PIPELINE = "pipeline"


def version_to_serve(store: ModelStore, asked: str | None) -> str:
    """The version asked for, else the chosen one.

    Raises
    ------
    ModelError
        When none is chosen.
    """
    version = asked or store.chosen()
    if version is None:
        raise ModelError("No model is chosen.", "Run `sentiment-assets train` first.")
    return version


def check_fit(store: ModelStore, version: str) -> None:
    """Refuse a version that this installation must not serve; starts no JVM.

    Raises
    ------
    ModelError
        When it is unknown, or :func:`~..models.compatibility.require_fit` says so.
    """
    features = {name: variant.code_version for name, variant in VARIANTS.items()}
    require_fit(store.manifest(version), spark=pyspark.__version__, features=features)


def reason_not_to_serve(store: ModelStore) -> str | None:
    """Why what is chosen cannot be served here; ``None``: it can, as far as its manifest tells."""
    chosen = store.chosen()
    if chosen is None:
        return "no model is chosen yet"
    try:
        check_fit(store, chosen)
    except ModelError as error:
        return error.what
    return None


def load_model(store: ModelStore, version: str) -> PipelineModel:
    """Load a version whose files are intact and that fits this Spark and these features.

    Raises
    ------
    ModelError
        When it is missing, damaged, no scoring model, or does not fit.
    """
    folder = store.folder(version)
    check_fit(store, version)
    try:
        return PipelineModel.load(str(folder / _PIPELINE))
    except (Py4JError, PySparkException, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The model {version} cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]}).",
            "Promote another version: `sentiment-assets models list`.",
        ) from error
