"""The first training through a running Dagster, as a person would start it from the UI.

Belongs here: submitting the run over GraphQL and following it in the event log, for ``up`` and for a deployment in
containers. Does not belong here: training in this process (``training``).
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dagster import AssetKey, DagsterInstance, DagsterRunStatus
from rich.console import Console
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from sentiment_assets.failures import SetupError, TrainingError, first_line
from sentiment_assets.keys import JOB_RETRAIN, LOCATION, RAW_TWEETS, TAG_ROLE
from sentiment_assets.local.artefacts import Tweets
from sentiment_assets.local.instance import open_instance
from sentiment_assets.local.runs import RunFollower
from sentiment_assets.local.training import (
    describe_model,
    job_of,
    plan,
    show_step,
    training_config,
    what_is_left,
)
from sentiment_assets.models.store import ModelStore
from sentiment_assets.resources.orphans import fail_orphaned_runs
from sentiment_assets.settings import Settings
from sentiment_assets.sources import resolve
from sentiment_assets.sources.choice import SAMPLE
from sentiment_assets.streaming.serving import reason_not_to_serve

if TYPE_CHECKING:
    from dagster_graphql import DagsterGraphQLClient

_REACH_SECONDS = 60


def train_through_dagster(
    instance: DagsterInstance,
    store: ModelStore,
    *,
    host: str,
    port: int,
    profile: str,
    run_config: dict[str, Any],
    assets: Sequence[AssetKey],
    console: Console,
    wait: Callable[[float], bool],
    meanwhile: Callable[[], object] = lambda: None,
) -> bool:
    """Submit the training job to the web server and show each of its steps until it ends.

    Parameters
    ----------
    instance
        The instance that the web server uses; the run's events are read from it.
    store
        The model store, to say what became of the chosen model.
    host, port
        Of the web server.
    profile
        ``quick`` or ``full``: which candidates.
    run_config
        From :func:`~sentiment_assets.local.training.training_config`.
    assets
        What to make, from :func:`~sentiment_assets.local.training.plan`.
    console
        Where the steps are shown.
    wait
        Waits so many seconds and returns whether to give up: the run is then terminated.
    meanwhile
        Called about twice a second.

    Returns
    -------
    bool
        Whether the training succeeded; False only when it was given up.

    Raises
    ------
    TrainingError
        When the run fails; says what became of the chosen model.
    SetupError
        When the web server cannot be reached.
    """
    import requests  # opens a socket at import, and so does Dagster's client
    from dagster_graphql import DagsterGraphQLClientError

    before = store.chosen()
    try:
        client = _reach(host, port)
        run_id = client.submit_job_execution(
            job_of(profile),
            repository_location_name=LOCATION,
            repository_name="__repository__",
            run_config=run_config if AssetKey(RAW_TWEETS) in assets else {},
            tags={TAG_ROLE: JOB_RETRAIN},
            asset_selection=assets,
        )
    except (DagsterGraphQLClientError, requests.RequestException) as error:
        raise SetupError(
            f"Dagster's web server at {host}:{port} did not take the training run ({first_line(error)}).",
            "Check that it runs and has loaded the code location sentiment_assets.",
        ) from error
    console.print(f"training   run http://{host}:{port}/runs/{run_id}", highlight=False)
    follower = RunFollower(instance, run_id, lambda event: show_step(console, event))
    while not wait(0.5):
        status = follower.poll()
        if status == DagsterRunStatus.SUCCESS:
            return True
        if status in (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED):
            raise TrainingError(
                f"The training run {run_id[:8]} ended as {status.value}: {'; '.join(follower.failures)}",
                what_is_left(store, before),
            )
        meanwhile()
    # A code server that was started again does not know its runs; what ends the main job ends them.
    with contextlib.suppress(DagsterGraphQLClientError, requests.RequestException):
        client.terminate_run(run_id)
    return False


def first_training(
    settings: Settings,
    *,
    host: str,
    port: int,
    data: str | None,
    rows: int | None,
    encoding: str | None,
    profile: str,
    console: Console,
) -> None:
    """Train through the running Dagster unless a model that fits is chosen already: what a deployment does once.

    Parameters
    ----------
    settings
        Names SENTIMENT_HOME, which the code location must share.
    host, port
        Of the web server.
    data, rows, encoding
        Source of the tweets, as the code location sees it; size of the seeded sample (None: all rows); the file's.

    Raises
    ------
    SentimentError
        When the source cannot be used, the web server not be reached, or the training fails.
    """
    store = ModelStore(settings.models)
    if (reason := reason_not_to_serve(store)) is not None:
        console.print(f"training   {reason}", markup=False, highlight=False)
        source = resolve(settings, data, lambda text: console.print(f"  {text}", markup=False))
        console.print(f"data       {source.note}", markup=False, highlight=False)
        pause = threading.Event()
        with open_instance(settings) as instance:
            fail_orphaned_runs(instance)
            decided = plan(
                settings,
                instance,
                Tweets(SAMPLE if source.generated else data, rows, encoding),
                profile=profile,
                console=console,
            )
            train_through_dagster(
                instance,
                store,
                host=host,
                port=port,
                profile=profile,
                run_config=training_config(source, data, rows, encoding),
                assets=list(decided.train),
                console=console,
                wait=pause.wait,
            )
    console.print(describe_model(settings), markup=False, highlight=False)


def _reach(host: str, port: int) -> "DagsterGraphQLClient":
    """A client of a web server that may still be starting."""
    import requests
    from dagster_graphql import DagsterGraphQLClient

    for attempt in Retrying(
        retry=retry_if_exception_type(requests.RequestException),
        wait=wait_fixed(1),
        stop=stop_after_delay(_REACH_SECONDS),
        reraise=True,
    ):
        with attempt:
            requests.get(f"http://{host}:{port}/server_info", timeout=5).raise_for_status()
    return DagsterGraphQLClient(host, port_number=port)
