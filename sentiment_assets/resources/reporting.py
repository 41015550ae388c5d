"""The report of the present state: from the store, Dagster's records and the studies to a page."""

from dagster import DagsterInstance

from sentiment_assets.models.store import ModelStore
from sentiment_assets.reports.content import TrainingReport, gather, nothing_to_report
from sentiment_assets.reports.studies import read_studies
from sentiment_assets.resources.provenance import read_provenance
from sentiment_assets.resources.records import read_records
from sentiment_assets.schemas import TRAIN_TWEETS
from sentiment_assets.settings import Settings


def current_report(settings: Settings, store: ModelStore, instance: DagsterInstance) -> TrainingReport:
    """The report on the candidates that were trained on the current ``train_tweets``.

    Raises
    ------
    TableError, ModelError
        When nothing was trained yet.
    """
    chosen = store.chosen()
    if chosen is None:
        raise nothing_to_report()
    data_version = read_provenance(settings.table(TRAIN_TWEETS.name)).data_version
    trained = [m for m in store.versions() if m.data_version == data_version and m.run_id]
    runs = list(dict.fromkeys(str(m.run_id) for m in trained))
    studies = read_studies(settings, model_version=chosen, data_version=data_version)
    return gather(store, data_version, read_records(instance, runs), studies)
