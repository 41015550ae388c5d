"""What Dagster remembers of the runs that trained the candidates, for the report."""

from collections.abc import Iterable

from dagster import AssetKey, DagsterInstance

from sentiment_assets.keys import CLEANED_TWEETS
from sentiment_assets.reports.content import RunRecords

_COUNTS = (
    "rows_in",
    "conflicting_ids",
    "empty_texts",
    "conflicting_texts",
    "exact_duplicates",
    "normalised_duplicates",
)


def read_records(instance: DagsterInstance, run_ids: Iterable[str]) -> RunRecords:
    """Seconds of each step of these runs, the newest run first, and the counts of the newest ``cleaned_tweets``.

    Parameters
    ----------
    run_ids
        Runs, the newest first; those that the instance does not know are left out.
    """
    steps: dict[str, float] = {}
    for run_id in run_ids:
        if not instance.has_run(run_id):
            continue
        for stats in instance.get_run_step_stats(run_id):
            if stats.start_time and stats.end_time:
                steps.setdefault(stats.step_key.replace("__", "/"), stats.end_time - stats.start_time)
    event = instance.get_latest_materialization_event(AssetKey(CLEANED_TWEETS))
    metadata = event.asset_materialization.metadata if event and event.asset_materialization else {}
    counts = {name: int(str(metadata[name].value)) for name in _COUNTS if name in metadata}
    return RunRecords(steps=steps, counts=counts)
