"""Training from the command line: the same assets and jobs as in the UI, recorded in the same instance."""

import os
import signal
import threading
import uuid
from collections.abc import Collection
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster import AssetKey, DagsterInstance, DagsterRunStatus, Definitions, RunsFilter
from rich.console import Console
from rich.text import Text

from sentiment_assets import keys
from sentiment_assets.build import build_definitions
from sentiment_assets.defs.tuning import run_config_of
from sentiment_assets.failures import TrainingError
from sentiment_assets.local.artefacts import Artefacts, Tweets
from sentiment_assets.local.instance import migrate_instance, open_instance
from sentiment_assets.local.resume import Plan, config_of_steps, plan_training, train_all
from sentiment_assets.local.runs import RunFollower, StepEvent
from sentiment_assets.models.store import ModelStore
from sentiment_assets.reports.pages import LATEST
from sentiment_assets.reports.studies import read_trials
from sentiment_assets.resources.orphans import HAS_A_PROCESS, fail_orphaned_runs, process_tags
from sentiment_assets.resources.provenance import read_provenance
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.settings import Settings, location
from sentiment_assets.spark.training import CANDIDATES
from sentiment_assets.spark.tuning import best_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentiment_assets.sources import TrainingSource


_INGESTED = (keys.RAW_TWEETS, keys.CLEANED_TWEETS, keys.TRAIN_TWEETS, keys.TEST_TWEETS)


def training_config(
    source: "TrainingSource | None", data: str | None, rows: int | None, encoding: str | None = None
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
        Of the file; None: as the settings say.
    """
    asked = "sample" if source is not None and source.kind == "generated" else data
    if asked is not None and asked != "sample":
        asked = str(location(asked))
    # 0: all rows, whatever SENTIMENT_TRAIN_ROWS says.
    config: dict[str, Any] = {"rows": rows or 0}
    if encoding is not None:
        config["encoding"] = encoding
    if asked is not None:
        config["data"] = asked
    return {"ops": {keys.RAW_TWEETS: {"config": config}}}


def describe_model(settings: Settings) -> str:
    """One paragraph on the chosen model: version, honest accuracy, what it was trained on, and where more is said."""
    store, page = ModelStore(settings.models), settings.reports / LATEST
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
        + (f"\nreport     {page}" if page.is_file() else "")
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


def job_of(profile: str) -> str:
    """Name of the job that trains the candidates of a profile."""
    return keys.JOB_RETRAIN_FULL if profile == "full" else keys.JOB_RETRAIN


def plan(
    settings: Settings,
    instance: DagsterInstance,
    tweets: Tweets,
    *,
    profile: str,
    wanted: Collection[str] | None = None,
    spared: Collection[str] = (),
    run_config: dict[str, Any] | None = None,
    force: bool = False,
    console: Console,
) -> Plan:
    """Decide what a training has to make and what it can keep, and say so on the console.

    Parameters
    ----------
    instance
        Where earlier trainings are recorded.
    tweets
        What the training reads.
    wanted, spared
        Asset keys (None: all of the profile), and those of them to leave as they are.
    run_config
        Of the run to come; that of the tweets alone unless given.
    force
        Keep nothing.

    Raises
    ------
    TrainingError
        When an asset key is unknown.
    SourceError
        When the tweets cannot be used.
    """
    definitions = build_definitions(settings)
    known = _known(definitions, profile)
    unknown = sorted(set(wanted or []) - known.keys())
    if unknown:
        raise TrainingError(
            f"There is no training asset {unknown[0]!r} in profile {profile}.",
            f"Choose from: {', '.join(sorted(known))}.",
        )
    selected = {known[name] for name in (wanted or known) if name not in spared}
    job = definitions.resolve_job_def(job_of(profile))
    if force:
        return train_all(job, selected, "asked for")
    artefacts = Artefacts(settings, tweets, lambda text: console.print(Text(f"           {text}")))
    decided = plan_training(
        definitions,
        job,
        instance,
        run_config=run_config or training_config(None, tweets.data, tweets.rows, tweets.encoding),
        selected=selected,
        unlike_now=artefacts.difference,
    )
    show_plan(console, decided)
    return decided


def _known(definitions: Definitions, profile: str) -> dict[str, AssetKey]:
    """The assets that the job of a profile makes, by name."""
    job = definitions.resolve_job_def(job_of(profile))
    return {key.to_user_string(): key for key in job.asset_layer.selected_asset_keys}


def show_plan(console: Console, decided: Plan) -> None:
    """What is kept and what is made, and why; nothing when all of it is new."""
    if not decided.kept:
        return
    kept = ", ".join(key.to_user_string() for key in decided.kept)
    console.print(Text(f"kept       {kept} (unchanged)"))
    for key, reason in decided.train.items():
        console.print(Text(f"to train   {key.to_user_string()}: {reason}"))


def train(
    settings: Settings,
    *,
    data: str | None,
    rows: int | None,
    profile: str,
    select: str | None,
    encoding: str | None = None,
    force: bool = False,
    tune: Tuning | None = None,
    console: Console,
) -> dict[str, Any]:
    """Materialize the training assets that are missing or out of date, in this process, and report the leaderboard.

    Parameters
    ----------
    settings, data, rows
        Installation; source of the tweets; size of the seeded sample (None: all rows).
    profile
        ``quick`` or ``full``: which candidates.
    select
        Asset keys by comma; None for all of the profile.
    encoding
        Of the file; None: as the settings say.
    force
        Make everything that is selected, also what has not changed.
    tune
        Search for settings of one candidate first, and train it with the winner's.
    console
        Where progress goes.

    Returns
    -------
    dict
        ``run_id, seconds`` of the run (None when nothing had to be made), ``trained, kept`` asset keys, ``chosen``
        version, the ``candidates`` with their metrics and the ``report``'s page; with ``tune`` also ``tuned``: the
        trials made, the winner's accuracy on the validation slice, and its settings.

    Raises
    ------
    TrainingError
        When a step fails or an asset key is unknown; the chosen model is untouched then.
    SourceError
        When the tweets cannot be used.
    SetupError
        When another ``train`` runs in this home.
    """
    wanted = [name.strip() for name in select.split(",")] if select else None
    if tune is not None:
        _check_tuning(tune, wanted or _known(build_definitions(settings), profile))
    settings.prepare()
    with only_one(settings, "train"), open_instance(settings) as instance, _sigterm_interrupts():
        migrate_instance(settings, instance)
        fail_orphaned_runs(instance)
        _refuse_beside_another(instance)
        definitions = build_definitions(settings)
        tweets = Tweets(data, rows, encoding)
        config = training_config(None, data, rows, encoding)
        tuned: dict[str, Any] = {}
        if tune is not None:
            tables = plan(
                settings, instance, tweets, profile=profile, wanted=_INGESTED, force=force, console=console
            )
            search = {"ops": config["ops"] | {keys.TUNING: {"config": vars(tune)}}}
            steps = [*tables.train, AssetKey(keys.TUNING)]
            _execute(settings, definitions, keys.JOB_TUNE, instance, console, search, steps)
            tuned, winner = _winner(settings, tune)
            config = {"ops": config["ops"] | winner["ops"]}
        decided = plan(
            settings,
            instance,
            tweets,
            profile=profile,
            wanted=wanted,
            # The search has just read the tweets; making them again would make everything anew.
            spared=_INGESTED if force and tune is not None else (),
            run_config=config,
            force=force,
            console=console,
        )
        run_id: str | None = None
        seconds: float | None = None
        if decided.train:
            run_id, seconds = _execute(
                settings, definitions, job_of(profile), instance, console, config, list(decided.train)
            )
        else:
            console.print(Text("nothing    has changed; --force trains it again all the same"))
    store = ModelStore(settings.models)
    page = settings.reports / LATEST
    return {
        "run_id": run_id,
        "seconds": seconds,
        "trained": [key.to_user_string() for key in decided.train],
        "kept": [key.to_user_string() for key in decided.kept],
        "chosen": store.chosen(),
        "report": str(page) if page.is_file() else None,
        **({"tuned": tuned} if tuned else {}),
        **_leaderboard(settings, store, decided),
    }


def _execute(
    settings: Settings,
    definitions: Definitions,
    job_name: str,
    instance: DagsterInstance,
    console: Console,
    run_config: dict[str, Any],
    assets: list[AssetKey],
) -> tuple[str, float | None]:
    """Make these assets in a run in this process and follow it; returns the run's id and its seconds."""
    run_id, store = str(uuid.uuid4()), ModelStore(settings.models)
    before = store.chosen()
    follower = RunFollower(instance, run_id, lambda event: show_step(console, event))
    with _background_poll(follower):
        result = definitions.resolve_job_def(job_name).execute_in_process(
            run_config=config_of_steps(definitions, run_config, assets)
            | {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=instance,
            run_id=run_id,
            raise_on_error=False,
            # Named from the start: a run that is killed before Spark is up must not stay "started" for ever.
            tags={keys.TAG_ROLE: keys.JOB_RETRAIN, **process_tags(run_id)},
            asset_selection=assets,
        )
    status = follower.poll()
    if not result.success or status != DagsterRunStatus.SUCCESS:
        raise TrainingError(
            f"The training run {run_id[:8]} failed: {'; '.join(follower.failures) or 'see the log'}",
            what_is_left(store, before),
        )
    record = instance.get_run_record_by_id(run_id)
    seconds = (record.end_time or 0) - (record.start_time or 0) if record else None
    return run_id, round(seconds, 1) if seconds is not None else None


def what_is_left(store: ModelStore, before: str | None) -> str:
    """What to know and to do after a training that failed; ``before``: the version chosen when it began."""
    after = store.chosen()
    kept = "The chosen model was not touched." if after == before else f"{after} was chosen before that."
    return f"{kept} Mend the cause and run the command again: what is done is kept."


def _refuse_beside_another(instance: DagsterInstance) -> None:
    """Two trainings at once would mix their tables; Dagster's queue keeps only its own apart."""
    tags = {keys.TAG_ROLE: keys.JOB_RETRAIN}
    # Not beside one that waits: without a daemon it would wait, and keep ``train`` back, for ever.
    for run in instance.get_runs(RunsFilter(statuses=HAS_A_PROCESS, tags=tags), limit=1):
        raise TrainingError(
            f"A training is under way in Dagster (run {run.run_id[:8]}, {run.job_name}, {run.status.value}).",
            "Wait for its end, or terminate it in the UI.",
        )


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


def _leaderboard(settings: Settings, store: ModelStore, decided: Plan) -> dict[str, Any]:
    names = [key.path[-1] for key in (*decided.kept, *decided.train) if key.path[0] == keys.CANDIDATES]
    data = read_provenance(settings.table(keys.TRAIN_TWEETS)).data_version if names else None
    trained = [found for name in names if (found := store.latest("candidate", name, data_version=data))]
    version = store.chosen()
    chosen = store.manifest(version) if version else None
    figures = chosen.metrics if chosen else {}
    return {
        "accuracy": figures.get("accuracy"),
        # On the half that no decision has seen.
        "unseen_accuracy": figures.get("report_accuracy"),
        "unseen_ci95_low": figures.get("report_ci95_low"),
        "unseen_ci95_high": figures.get("report_ci95_high"),
        "unseen_n": figures.get("report_n"),
        "source": chosen.source.note if chosen else None,
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
