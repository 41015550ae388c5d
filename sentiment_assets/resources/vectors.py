"""The fitted features and their vectors that several candidates of one run share."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel

from sentiment_assets.failures import ModelError
from sentiment_assets.models.store import ModelStore
from sentiment_assets.spark.features import VARIANTS, FittedFeatures
from sentiment_assets.spark.training import cached_vectors

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class VectorCache:
    """Keeps the features of one variant and the vectors of the training rows, those last asked for.

    Candidates of a variant run one after another (the priority of their steps groups them), so each variant
    is loaded and transformed once a run, and never two are held.

    Parameters
    ----------
    store
        Where fitted features are kept between runs.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._version: str | None = None
        self._fitted: FittedFeatures | None = None
        self._vectors: DataFrame | None = None
        self._cached = ExitStack()

    def remember(self, version: str, fitted: FittedFeatures) -> None:
        """Spare the candidates of this run the reading of features that were just fitted."""
        self.clear()
        self._version, self._fitted = version, fitted

    def features(self, variant: str, data_version: str) -> tuple[str, FittedFeatures]:
        """Version and content of the newest features of a variant that this code fitted on this data.

        Raises
        ------
        ModelError
            When there are none, or files of them are missing.
        """
        code_version = VARIANTS[variant].code_version
        manifest = self._store.latest("features", variant, data_version, code_version)
        if manifest is None:
            raise ModelError(
                f"The features {variant!r} were not fitted on the current train_tweets by this release.",
                f"Materialize features/{variant} first, or together with the candidate.",
            )
        if manifest.version != self._version or self._fitted is None:
            folder = self._store.folder(manifest.version)
            figures = manifest.metrics
            fitted = FittedFeatures(
                variant=variant,
                model=PipelineModel.load(str(folder / "pipeline")),
                rows=manifest.rows_train,
                vocabulary_size=int(figures["vocabulary_size"]),
                mean_nonzero=float(figures["mean_nonzero"]),
                sparsity=float(figures["sparsity"]),
                seconds=float(figures["seconds"]),
            )
            self.remember(manifest.version, fitted)
            return manifest.version, fitted
        return manifest.version, self._fitted

    def vectors(self, fitted: FittedFeatures, train: "DataFrame") -> "DataFrame":
        """Columns ``label`` and ``ml_features`` of the training rows, cached.

        Parameters
        ----------
        fitted
            What :meth:`features` returned last.
        train
            Rows ``text STRING, label DOUBLE``.
        """
        if self._vectors is None:
            self._vectors = self._cached.enter_context(cached_vectors(fitted, train))
        return self._vectors

    def clear(self) -> None:
        """Free the memory."""
        self._cached.close()
        self._version, self._fitted, self._vectors = None, None, None
