"""What training has made and what it was made from, as it is on the disk now, against what Dagster recorded of it.

Does not belong here: what Dagster itself compares (``resume``).
"""

from collections.abc import Callable
from dataclasses import dataclass

import pyspark
from dagster import AssetKey, AssetMaterialization

from sentiment_assets import keys
from sentiment_assets.defs.cleaned import split_provenance
from sentiment_assets.defs.raw import raw_version
from sentiment_assets.failures import ModelError, TableError
from sentiment_assets.local.resume import data_version
from sentiment_assets.models.compatibility import require_same_spark
from sentiment_assets.models.store import ModelStore
from sentiment_assets.reports.pages import LATEST
from sentiment_assets.resources.provenance import read_provenance
from sentiment_assets.schemas import TABLES
from sentiment_assets.settings import Settings
from sentiment_assets.sources import resolve
from sentiment_assets.streaming.serving import check_fit


@dataclass(frozen=True)
class Tweets:
    """What a training reads: see :func:`sentiment_assets.sources.resolve`; size of the sample; encoding, if known."""

    data: str | None
    rows: int | None
    encoding: str | None = None


@dataclass(frozen=True)
class Artefacts:
    """Tables, models and report of one home, and the tweets that a run would read.

    Parameters
    ----------
    settings, tweets
        Installation, and what a run would read.
    report
        Called with lines of progress while tweets are downloaded.
    """

    settings: Settings
    tweets: Tweets
    report: Callable[[str], None]

    def difference(self, key: AssetKey, made: AssetMaterialization) -> str | None:
        """How an asset differs from what its materialization says; ``None``: it is all there and up to date.

        Raises
        ------
        SourceError
            When the tweets to compare with cannot be used.
        """
        name = key.path[-1]
        try:
            if name in TABLES:
                return self._table(name, made)
            if name == keys.CHOSEN_MODEL and self._store.chosen() is None:
                return "no model is chosen"
            if key.path[0] in (keys.FEATURES, keys.CANDIDATES, keys.CHOSEN_MODEL):
                self._model(key, made)
            elif name == keys.TRAINING_REPORT and not (self.settings.reports / LATEST).is_file():
                return "its page is not there"
        except (ModelError, TableError) as error:
            return error.what.rstrip(".")
        return None

    @property
    def _store(self) -> ModelStore:
        return ModelStore(self.settings.models)

    def _model(self, key: AssetKey, made: AssetMaterialization) -> None:
        store = self._store
        version = str(
            store.chosen() if key.path[0] == keys.CHOSEN_MODEL else made.metadata["model_version"].value
        )
        store.folder(version)
        if key.path[0] == keys.FEATURES:
            require_same_spark(store.manifest(version), pyspark.__version__)
        else:
            check_fit(store, version)

    def _table(self, name: str, made: AssetMaterialization) -> str | None:
        recorded = data_version(made)
        if read_provenance(self.settings.table(name)).data_version != recorded:
            return "its table holds other rows"
        if name == keys.RAW_TWEETS:
            source = resolve(self.settings, self.tweets.data, self.report)
            encoding = self.tweets.encoding or source.encoding
            if raw_version(self.settings, source.path, self.tweets.rows, encoding) != recorded:
                return "the tweets have changed"
        if name in (keys.TRAIN_TWEETS, keys.TEST_TWEETS):
            fraction = float(str(made.metadata["test_fraction"].value))
            if split_provenance(self.settings, fraction).data_version != recorded:
                return "the seed has changed"
        return None
