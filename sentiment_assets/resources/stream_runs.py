"""The runs of the stream in Dagster, as the supervisor sees them."""

from dagster import DagsterInstance, RunsFilter

from sentiment_assets import keys
from sentiment_assets.resources.orphans import began, own_tag
from sentiment_assets.streaming.supervisor import RunRecord, RunStatus

_RUNS_LOOKED_AT = 20


def stream_runs(instance: DagsterInstance) -> list[RunRecord]:
    """The latest runs of the stream, newest first, as the supervisor sees them."""
    records = instance.get_run_records(
        RunsFilter(tags={keys.TAG_ROLE: keys.JOB_SCORE_STREAM}), limit=_RUNS_LOOKED_AT
    )
    return [
        RunRecord(
            run_id=record.dagster_run.run_id,
            status=RunStatus(record.dagster_run.status.value),
            created_at=began(record),
            started_at=record.start_time,
            ended_at=record.end_time,
            lease=_number(record.dagster_run.tags.get(keys.TAG_LEASE)),
            attempt=_number(record.dagster_run.tags.get(keys.TAG_ATTEMPT)),
            model_version=own_tag(record.dagster_run, keys.TAG_MODEL),
            progressed=own_tag(record.dagster_run, keys.TAG_PROGRESSED) is not None,
            stood_down=own_tag(record.dagster_run, keys.TAG_STOOD_DOWN) is not None,
            succeeds=keys.TAG_SUCCEEDS in record.dagster_run.tags and not record.dagster_run.parent_run_id,
        )
        for record in records
    ]


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
