"""Training from the command line: the same assets and jobs as in the UI, recorded in the same instance."""

import os
import signal
import threading
import uuid
from collections.abc import Collection
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import AssetKey, DagsterInstance, DagsterRunStatus, JobDefinition
from rich.console import Console
from rich.text import Text

from sentiment_assets import keys
from sentiment_assets.build import build_definitions
from sentiment_assets.defs.tuning import run_config_of
from sentiment_assets.failures import TrainingError
from sentiment_assets.local.instance import open_instance
from sentiment_assets.local.runs import RunFollower, StepEvent
from sentiment_assets.models.store import ModelStore
from sentiment_assets.reports.pages import LATEST
from sentiment_assets.reports.studies import read_trials
from sentiment_assets.resources.orphans import fail_orphaned_runs
from sentiment_assets.resources.provenance import read_provenance
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.settings import Settings
from sentiment_assets.sources.sentiment140 import ENCODING
from sentiment_assets.spark.training import CANDIDATES
from sentiment_assets.spark.tuning import best_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentiment_assets.sources import TrainingSource


_INGESTED = (keys.RAW_TWEETS, keys.CLEANED_TWEETS, keys.TRAIN_TWEETS, keys.TEST_TWEETS)


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
        "note": f"           {event.step}: {event.detail}",
        "check": f"           {event.detail}",
        "failure": f"           {event.step} failed",
    }[event.kind]
    console.print(Text(text, style=style))


@dataclass(frozen=True)
class Tuning:
    """A search for better settings before the training: of which candidate, how many trials and minutes at most."""

    candidate: str
    trials: int
    minutes: float


def train(
    settings: Settings,
    *,
    data: str | None,
    rows: int | None,
    profile: str,
    select: str | None,
    encoding: str = ENCODING,
    tune: Tuning | None = None,
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
    tune
        Search for settings of one candidate first, and train it with the winner's.
    console
        Where progress goes.

    Returns
    -------
    dict
        ``run_id, seconds, chosen``, the ``candidates`` with their metrics and the ``report``'s page; with ``tune``
        also ``tuned``: the trials made, the winner's accuracy on the validation slice, and its settings.

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
    if tune is not None:
        _check_tuning(tune, wanted or known)
    ingest = training_config(None, data, rows, encoding)
    settings.prepare()
    with only_one(settings, "train"), open_instance(settings) as instance, _sigterm_interrupts():
        fail_orphaned_runs(instance)
        tuned: dict[str, Any] = {}
        if tune is not None:
            search = definitions.resolve_job_def(keys.JOB_TUNE)
            config = {keys.TUNING: {"config": vars(tune)}}
            _execute(settings, search, instance, console, {"ops": ingest["ops"] | config}, None)
            tuned, config = _winner(settings, tune)
            # The tweets are in place, and reading them again would make everything anew.
            wanted = [name for name in sorted(wanted or known) if name not in _INGESTED]
        else:
            config = ingest if wanted is None or keys.RAW_TWEETS in wanted else {}
        run_id, seconds = _execute(settings, job, instance, console, config, wanted)
    store = ModelStore(settings.models)
    page = settings.reports / LATEST
    return {
        "run_id": run_id,
        "seconds": seconds,
        "chosen": store.chosen(),
        "report": str(page) if page.is_file() else None,
        **({"tuned": tuned} if tuned else {}),
        **_leaderboard(store, run_id),
    }


def _execute(
    settings: Settings,
    job: JobDefinition,
    instance: DagsterInstance,
    console: Console,
    run_config: dict[str, Any],
    wanted: list[str] | None,
) -> tuple[str, float | None]:
    """Run a job in this process and follow it; returns the run's id and its seconds."""
    run_id, store = str(uuid.uuid4()), ModelStore(settings.models)
    before = store.chosen()
    follower = RunFollower(instance, run_id, lambda event: show_step(console, event))
    with _background_poll(follower):
        result = job.execute_in_process(
            run_config=run_config | {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=instance,
            run_id=run_id,
            raise_on_error=False,
            tags={keys.TAG_ROLE: keys.JOB_RETRAIN},
            asset_selection=[AssetKey.from_user_string(name) for name in wanted] if wanted else None,
        )
    status = follower.poll()
    if not result.success or status != DagsterRunStatus.SUCCESS:
        after = store.chosen()
        kept = "The chosen model was not touched." if after == before else f"{after} was chosen before that."
        raise TrainingError(
            f"The training run {run_id[:8]} failed: {'; '.join(follower.failures) or 'see the log'}",
            f"{kept} Mend the cause and run the command again.",
        )
    record = instance.get_run_record_by_id(run_id)
    seconds = (record.end_time or 0) - (record.start_time or 0) if record else None
    return run_id, round(seconds, 1) if seconds is not None else None


def _check_tuning(tune: Tuning, assets: Collection[str]) -> None:
    """Refuse a search whose winner this training would not use."""
    if tune.candidate not in CANDIDATES:
        raise TrainingError(
            f"There is no candidate {tune.candidate!r}.", f"Choose from: {', '.join(sorted(CANDIDATES))}."
        )
    needed = f"{keys.CANDIDATES}/{tune.candidate}"
    if needed not in assets:
        raise TrainingError(
            f"The search is for settings of {tune.candidate}, which this training leaves out.",
            f"Add --profile full or {needed} to --select, or tune another candidate with --tune-candidate.",
        )


def _winner(settings: Settings, tune: Tuning) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the search found, and the run configuration that trains with it."""
    data_version = read_provenance(settings.table(keys.TRAIN_TWEETS)).data_version
    trials = read_trials(settings, candidate=tune.candidate, data_version=data_version)
    best = best_of(trials)
    if best is None:
        raise TrainingError(
            f"The search for settings of {tune.candidate} found none.",
            "Give it more --trials or --tune-minutes.",
        )
    found = {"candidate": tune.candidate, "trials": len(trials), "accuracy": best.accuracy}
    return found | {"settings": best.parameters}, run_config_of(CANDIDATES[tune.candidate], best)


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
