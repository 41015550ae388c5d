"""``sentiment-assets sink``: databases that follow the predictions."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentiment_assets.commands.output import Json, emit, note, pairs
from sentiment_assets.commands.signals import stop_on_signals
from sentiment_assets.failures import SentimentError, SetupError, first_line
from sentiment_assets.settings import Settings

if TYPE_CHECKING:
    from sentiment_assets.sinks.follow import Followed

app = typer.Typer(
    no_args_is_help=True,
    help="Databases that follow the predictions: PostgreSQL and MongoDB, each switched on by a setting.",
)

Only = Annotated[
    list[str] | None, typer.Option("--only", help="postgres or mongodb; default: all that are switched on.")
]


@app.command("run")
def sink_run(
    once: Annotated[bool, typer.Option("--once", help="End as soon as everything is there.")] = False,
    resync: Annotated[
        bool, typer.Option("--resync", help="Empty the sink first and copy the table anew.")
    ] = False,
    only: Only = None,
    as_json: Json = False,
) -> None:
    """Follow the table of predictions until Ctrl-C; a database that is down is waited for.

    A sink that refuses ends alone; the command ends with its error when the others have ended too.
    """
    from sentiment_assets.runtime.instance import only_one
    from sentiment_assets.schemas import PREDICTIONS
    from sentiment_assets.sinks.configured import make_sink
    from sentiment_assets.sinks.follow import follow

    settings = Settings.from_env().prepare()
    names = _names(settings, only)

    def run(name: str, stop: threading.Event) -> "Followed":
        with only_one(settings, f"sink {name}"):
            return follow(
                make_sink(settings, name),
                settings.table(PREDICTIONS.name),
                stop,
                once=once,
                resync=resync,
                on_progress=_occasionally(lambda state: note(state.text)),
            )

    with stop_on_signals() as stop, ThreadPoolExecutor(len(names)) as pool:
        runs = {name: pool.submit(run, name, stop) for name in names}
        _wait(runs)
    result = {name: _figures(run.result()) for name, run in runs.items() if run.exception() is None}
    if result:
        emit(result, as_json, lambda found: pairs({name: one["text"] for name, one in found.items()}))
    for one in runs.values():
        one.result()


@app.command("status")
def sink_status(only: Only = None, as_json: Json = False) -> None:
    """How far each sink is behind the table."""
    settings = Settings.from_env()
    result = {name: _status(settings, name) for name in _names(settings, only)}

    def words(found: dict[str, Any]) -> None:
        for name, one in found.items():
            if one["answers"]:
                lag = (
                    "no table yet"
                    if one["lag_versions"] is None
                    else f"{one['lag_versions']:,} commits behind"
                )
                pairs({name: f"{one['rows_there']:,} rows, {lag} ({one['where']})"})
            else:
                pairs({name: one.get("error") or f"does not answer: {one['reason']}"})

    emit(result, as_json, words)
    if any("error" in one for one in result.values()):
        raise typer.Exit(1)


def _status(settings: Settings, name: str) -> dict[str, Any]:
    """Where a sink is; ``reason`` where it does not answer, ``error`` where it refuses."""
    from sentiment_assets.schemas import PREDICTIONS
    from sentiment_assets.sinks.base import SinkAwayError
    from sentiment_assets.sinks.configured import make_sink
    from sentiment_assets.sinks.follow import count_rows, read_followed

    where = None
    try:
        sink = make_sink(settings, name)
        where = sink.where
        state = read_followed(sink, settings.table(PREDICTIONS.name))
        return {
            "where": where,
            "answers": True,
            "rows_there": count_rows(sink),
            "lag_versions": state.lag_versions,
            "version": state.version,
            "table_version": state.table_version,
        }
    except SinkAwayError as error:
        return {"where": where, "answers": False, "reason": str(error)}
    except SentimentError as error:
        return {"where": where, "answers": False, "error": str(error)}


def _names(settings: Settings, only: list[str] | None) -> list[str]:
    from sentiment_assets.sinks.configured import NAMES, SETTINGS, configured_names

    wanted = only or list(NAMES)
    if unknown := [name for name in wanted if name not in NAMES]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(NAMES)}", param_hint="--only")
    names = [name for name in configured_names(settings) if name in wanted]
    if not names:
        variables = " or ".join(SETTINGS[name] for name in wanted)
        raise SetupError("No sink is switched on.", f"Set {variables}.")
    return names


def _figures(state: "Followed") -> dict[str, Any]:
    return vars(state) | {"lag_versions": state.lag_versions, "text": state.text}


def _wait(runs: dict[str, Future[Any]]) -> None:
    """Until all have ended; says at once when one fails beside others. Wakes often, so that signals are seen."""
    names = {run: name for name, run in runs.items()}
    waiting = set(names)
    while waiting:
        done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
        for run in done:
            if len(runs) > 1 and (error := run.exception()) is not None:
                note(f"The sink {names[run]} has ended: {first_line(error)}")


def _occasionally(show: Callable[["Followed"], None], seconds: float = 10.0) -> Callable[["Followed"], None]:
    shown = time.monotonic()

    def call(state: "Followed") -> None:
        nonlocal shown
        if time.monotonic() - shown >= seconds:
            shown = time.monotonic()
            show(state)

    return call
