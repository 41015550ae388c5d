"""Training from the command line: the same assets and jobs as in the UI, recorded in the same instance."""

import os
import signal
import threading
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import AssetKey, DagsterRunStatus
from rich.console import Console
from rich.text import Text

from sentiment_assets import keys
from sentiment_assets.build import build_definitions
from sentiment_assets.failures import TrainingError
from sentiment_assets.local.instance import open_instance
from sentiment_assets.local.runs import RunFollower, StepEvent
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.orphans import fail_orphaned_runs
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.settings import Settings
from sentiment_assets.sources.sentiment140 import ENCODING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentiment_assets.sources import TrainingSource


def training_config(
    source: "TrainingSource | None", data: str | None, rows: int | None, encoding: str = ENCODING
) -> dict[str, Any]:
    """Run configuration of the training jobs.

    Parameters
    ----------
    source
        What ``data`` was resolved to, when that is known already: a fallback is then not tried twice.
    data
        What the person asked for; a relative path is made absolute, since runs work elsewhere.
    rows
        Size of the seeded sample; None for all rows.
    encoding
        Of the file.
    """
    asked = "sample" if source is not None and source.kind == "generated" else data
    if asked is not None and asked != "sample":
        asked = str(Path(asked).expanduser().absolute())
    stated = (("data", asked), ("rows", rows), ("encoding", encoding))
    config: dict[str, Any] = {key: value for key, value in stated if value}
    return {"ops": {keys.RAW_TWEETS: {"config": config}}}


def describe_model(store: ModelStore) -> str:
    """One paragraph on the chosen model: version, honest accuracy, and what it was trained on."""
    version = store.chosen()
    if version is None:
        return "model      none is chosen yet"
    manifest = store.manifest(version)
    m = manifest.metrics
    return (
        f"model      {version}\n"
        f"           accuracy {m['report_accuracy']:.4f} "
        f"(95 % interval {m['report_ci95_low']:.4f} to {m['report_ci95_high']:.4f}, "
        f"n = {m['report_n']:,} tweets that no decision has seen)\n"
        f"           trained on {manifest.rows_train:,} tweets; {manifest.source.note}"
    )


def show_step(console: Console, event: StepEvent) -> None:
    """One line per step of a training run; texts from outside are never markup."""
    style = {"failure": "bold red", "check": "yellow"}.get(event.kind, "")
    text = {
        "start": f"           {event.step} …",
        "success": f"           {event.step} done in {event.seconds or 0:.1f} s",
        "check": f"           {event.detail}",
        "failure": f"           {event.step} failed",
    }[event.kind]
    console.print(Text(text, style=style))


def train(
    settings: Settings,
    *,
    data: str | None,
    rows: int | None,
    profile: str,
    select: str | None,
    encoding: str = ENCODING,
    console: Console,
) -> dict[str, Any]:
    """Materialize the training assets in this process and report the leaderboard.

    Parameters
    ----------
    settings, data, rows
        Installation; source of the tweets; size of the seeded sample (None: all rows).
    profile
        ``quick`` or ``full``: which candidates.
    select
        Asset keys by comma; None for all of the profile.
    encoding
        Of the file.
    console
        Where progress goes.

    Returns
    -------
    dict
        ``run_id, seconds, chosen, decision`` and the ``candidates`` with their metrics.

    Raises
    ------
    TrainingError
        When a step fails or an asset key is unknown; the chosen model is untouched then.
    SetupError
        When another ``train`` runs in this home.
    """
    definitions = build_definitions(settings)
    job = definitions.resolve_job_def(keys.JOB_RETRAIN_FULL if profile == "full" else keys.JOB_RETRAIN)
    known = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
    wanted = [name.strip() for name in select.split(",")] if select else None
    unknown = sorted(set(wanted or []) - known)
    if unknown:
        raise TrainingError(
            f"There is no training asset {unknown[0]!r} in profile {profile}.",
            f"Choose from: {', '.join(sorted(known))}.",
        )
    config = (
        training_config(None, data, rows, encoding) if wanted is None or keys.RAW_TWEETS in wanted else {}
    )
    run_id = str(uuid.uuid4())
    settings.prepare()
    with only_one(settings, "train"), open_instance(settings) as instance, _sigterm_interrupts():
        fail_orphaned_runs(instance)
        follower = RunFollower(instance, run_id, lambda event: show_step(console, event))
        with _background_poll(follower):
            result = job.execute_in_process(
                run_config=config | {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                instance=instance,
                run_id=run_id,
                raise_on_error=False,
                tags={keys.TAG_ROLE: keys.JOB_RETRAIN},
                asset_selection=[AssetKey.from_user_string(name) for name in wanted] if wanted else None,
            )
        status = follower.poll()
        record = instance.get_run_record_by_id(run_id)
    if not result.success or status != DagsterRunStatus.SUCCESS:
        raise TrainingError(
            f"The training run {run_id[:8]} failed: {'; '.join(follower.failures) or 'see the log'}",
            "The chosen model was not touched. Mend the cause and run the command again.",
        )
    store = ModelStore(settings.models)
    seconds = (record.end_time or 0) - (record.start_time or 0) if record else None
    return {
        "run_id": run_id,
        "seconds": round(seconds, 1) if seconds is not None else None,
        "chosen": store.chosen(),
        **_leaderboard(store, run_id),
    }


def _leaderboard(store: ModelStore, run_id: str) -> dict[str, Any]:
    trained = [m for m in store.versions(kind="candidate") if m.run_id == run_id]
    chosen = store.chosen()
    return {
        "accuracy": store.manifest(chosen).metrics.get("accuracy") if chosen else None,
        "source": store.manifest(chosen).source.note if chosen else None,
        "candidates": [{"name": m.name, "version": m.version, **m.metrics} for m in trained],
    }


@contextmanager
def _background_poll(follower: RunFollower) -> "Iterator[None]":
    """Report the run's events while the calling thread executes it."""
    done = threading.Event()

    def poll() -> None:
        while not done.wait(0.5):
            follower.poll()

    thread = threading.Thread(target=poll, name="follow-run", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _sigterm_interrupts() -> "Iterator[None]":
    """SIGTERM ends the run as Ctrl-C does: the step is interrupted and the run recorded as failed."""

    def interrupt(_signum: int, _frame: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
