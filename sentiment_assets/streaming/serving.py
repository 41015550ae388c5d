"""The model that the stream serves: found, verified, loaded.

Does not belong here: choosing it (``models``), applying it (``spark.scoring``).
"""

from importlib.metadata import version as installed_version

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.ml import PipelineModel

from sentiment_assets.failures import ModelError
from sentiment_assets.models.store import ModelStore

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


def load_model(store: ModelStore, version: str) -> PipelineModel:
    """Load a version whose files are intact and that this Spark can read.

    Raises
    ------
    ModelError
        When it is missing, damaged, no scoring model, or was written by another Spark release line.
    """
    folder = store.folder(version)
    manifest = store.manifest(version)
    if manifest.kind != "candidate":
        raise ModelError(
            f"{version} is a feature pipeline and cannot score.",
            "Name a candidate: `sentiment-assets models list`.",
        )
    wrote, here = manifest.pins.get("pyspark", "unknown"), installed_version("pyspark")
    if _line(wrote) != _line(here):
        raise ModelError(
            f"The model {version} was written by Spark {wrote}, this is Spark {here}.",
            "Train it anew with `sentiment-assets train`, or install the versions of requirements.lock.",
        )
    try:
        return PipelineModel.load(str(folder / _PIPELINE))
    except (Py4JError, PySparkException, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The model {version} cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]}).",
            "Promote another version: `sentiment-assets models list`.",
        ) from error


def _line(version: str) -> list[str]:
    """Major and minor number: Spark reads pipelines of its own release line."""
    return version.split(".")[:2]
