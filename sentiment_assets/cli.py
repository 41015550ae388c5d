"""The command line: arguments in, one function call, figures out.

Every command ends with 0 on success, 2 on bad usage, 1 with a one-line cause and a next step otherwise.
``--json`` prints one JSON object on stdout and nothing else there; logs and progress go to stderr.
Imports stay inside the commands, so that ``--help`` and ``status`` load neither Dagster nor Spark.
"""

import io
import logging
import os
import re
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from sentiment_assets import __version__
from sentiment_assets.commands import history, ingest, kafka, letters, sink, submit, watching
from sentiment_assets.commands.options import Encoding
from sentiment_assets.commands.output import Json, console, emit, note, pairs
from sentiment_assets.failures import SentimentError, SetupError, SourceError
from sentiment_assets.settings import Settings
from sentiment_assets.terminal import LineHandler, open_console, printable

app = typer.Typer(
    name="sentiment-assets",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Live, trustworthy tweet sentiment: Spark MLlib training and a supervised Kafka stream, as Dagster assets.",
)
models_app = typer.Typer(no_args_is_help=True, help="The model store.")
bench_app = typer.Typer(no_args_is_help=True, help="The benchmarks of the README.")
app.add_typer(kafka.app, name="kafka")
app.add_typer(models_app, name="models")
app.add_typer(bench_app, name="bench")
app.add_typer(ingest.app, name="ingest")
app.add_typer(sink.app, name="sink")
app.add_typer(letters.app, name="dead-letters")
app.command()(history.rescore)
app.command()(history.backfill)
app.command()(watching.metrics)
app.add_typer(submit.app, name="submit")

Data = Annotated[
    str | None,
    typer.Option("--data", help="CSV or zip in Sentiment140's format, or 'sample' for the generated sample."),
]
Rows = Annotated[
    str | None,
    typer.Option(
        help="Size of the seeded sample, or 'all'; default: SENTIMENT_TRAIN_ROWS, else 200000 (train: 'all')."
    ),
]
Profile = Annotated[
    Literal["quick", "full"], typer.Option(help="quick: the candidates that matter; full: the whole table.")
]


class SplitName(StrEnum):
    """Protocols by name (an option that may be given several times cannot be a Literal)."""

    published = "published"
    author = "author"
    text = "text"


_LEVELS = "Use one of DEBUG, INFO, WARNING, ERROR."
_MOST_ROWS = 2**31 - 1
_ROWS = 200_000
"""What the main job trains on unless it is told: minutes instead of an hour for all of Sentiment140."""


def main() -> None:
    """Entry point: turns our errors into one line and an exit code."""
    level = (os.environ.get("SENTIMENT_LOG_LEVEL") or "WARNING").upper()
    known = level in logging.getLevelNamesMapping()
    logging.basicConfig(
        level=level if known else "WARNING", format="%(message)s", handlers=[LineHandler(console)]
    )
    try:
        if not known:
            fail(f"The environment variable SENTIMENT_LOG_LEVEL has an unusable value ({level}).", _LEVELS)
        app(standalone_mode=True)
    except SentimentError as error:
        logging.getLogger(__name__).debug("Stack trace", exc_info=error)
        fail(error.what, error.next_step)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # `... | head`: the reader has seen enough; the interpreter must not try to flush at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(
            f"{where}{error.strerror or error}.",
            "Free some disk or mend the permissions, or point SENTIMENT_HOME at another folder.",
        )
    except Exception as error:
        # A fault of ours: the person gets one line all the same, and whoever mends it the stack trace.
        first = next(iter(str(error).splitlines()), "")
        fail(f"Something unforeseen went wrong ({type(error).__name__}: {first[:300]}).", _kept(error))


def _kept(error: Exception) -> str:
    """Keep the stack trace of a fault of ours in a file; returns the next step."""
    report = "report it with what you did."
    try:
        folder = Settings.from_env().logs
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "unforeseen.log"
        file.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
    except (OSError, SentimentError):
        logging.getLogger(__name__).debug("Stack trace", exc_info=error)
        return f"Run it again with SENTIMENT_LOG_LEVEL=DEBUG for the stack trace, and {report}"
    return f"The stack trace is in {file}: {report}"


def fail(what: str, next_step: str) -> None:
    """Print one line with the cause and the next step, and exit with 1."""
    console.print(Text.assemble(("error: ", "bold red"), f"{what} ", (next_step, "cyan")))
    sys.exit(1)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check everything that can be wrong with this machine, with a fix for each failure."""
    from sentiment_assets.runtime.doctor import Check, run_checks

    def show(check: Check) -> None:
        if not as_json:
            mark = ("ok  ", "green") if check.ok else ("FAIL", "bold red")
            fix = "" if check.ok else f"\n     {check.fix}"
            open_console().print(Text.assemble(mark, f" {check.name}: {check.detail}{fix}"))

    checks = run_checks(Settings.from_env(), on_check=show)
    healthy = all(check.ok for check in checks)
    emit(
        {"ok": healthy, "checks": [vars(check) for check in checks]},
        as_json,
        lambda _: note(
            "Everything is in order." if healthy else "Mend what is marked FAIL and run it again."
        ),
    )
    raise typer.Exit(0 if healthy else 1)


@app.command()
def up(
    data: Data = None,
    rows: Rows = None,
    profile: Profile = "quick",
    messages: Annotated[
        int | None,
        typer.Option(
            min=0, help="Tweets to bring into the topic; default: 20000 of a file, no end of a live source."
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Tweets a second.")] = 200.0,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI.")] = 3000,
    exit_when_drained: Annotated[
        bool, typer.Option("--exit-when-drained", help="Stop when every message is scored.")
    ] = False,
    encoding: Encoding = None,
    source: Annotated[
        Literal["file", "x", "jetstream"],
        typer.Option(
            help="file: the training file, replayed; x, jetstream: live posts (see docs/sources.md)."
        ),
    ] = "file",
) -> None:
    """Run everything: broker, Dagster UI and daemon, training, supervised stream, replay. Ctrl-C ends it."""
    from sentiment_assets.local.up import UpOptions, up

    if source != "file" and exit_when_drained and not messages:
        raise typer.BadParameter(
            "a live source does not end: say --messages", param_hint="--exit-when-drained"
        )
    if source == "file" and messages is None:
        messages = 20_000
    elif source != "file" and messages == 0:
        raise typer.BadParameter("a live source brings at least one message", param_hint="--messages")
    settings = Settings.from_env()
    options = UpOptions(
        data,
        _rows(settings, rows, otherwise=_ROWS),
        profile,
        messages,
        rate,
        port,
        exit_when_drained,
        encoding,
        source,
    )
    up(settings, options, console)


def row_limit(rows: str) -> int | None:
    """``all`` -> None, a positive number -> itself; anything else is bad usage."""
    if rows == "all":
        return None
    # ASCII alone: int() also reads other scripts, and isdigit() knows digits that it does not.
    if re.fullmatch(r"\d+(_\d+)*", rows, re.ASCII) and 0 < int(rows) <= _MOST_ROWS:
        return int(rows)
    raise typer.BadParameter(f"{rows!r} is neither 'all' nor a positive number", param_hint="--rows")


def _rows(settings: Settings, asked: str | None, *, otherwise: int | None = None) -> int | None:
    return settings.rows_to_train(otherwise) if asked is None else row_limit(asked)


@app.command()
def train(
    data: Data = None,
    rows: Rows = None,
    profile: Profile = "quick",
    select: Annotated[
        str | None,
        typer.Option(help="Only these assets, by comma, e.g. 'candidates/nb_ngrams_logistic_regression'."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train again what has not changed, too.")] = False,
    encoding: Encoding = None,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Search for better settings first, on a slice of the training tweets."),
    ] = False,
    tune_candidate: Annotated[
        str, typer.Option(help="With --tune: the candidate whose settings are searched.")
    ] = "nb_ngrams_logistic_regression",
    trials: Annotated[
        int,
        typer.Option(min=1, max=1000, help="With --tune: trials in all; a rerun on the same data goes on."),
    ] = 20,
    tune_minutes: Annotated[
        float,
        typer.Option(min=0.1, help="With --tune: no trial begins after so many minutes."),
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Train what is missing or out of date, as a Dagster run; no UI is needed. Goes on where it was interrupted."""
    from sentiment_assets.local.training import Tuning, train

    settings = Settings.from_env()
    result = train(
        settings,
        data=data,
        rows=_rows(settings, rows),
        profile=profile,
        select=select,
        encoding=encoding,
        force=force,
        tune=Tuning(tune_candidate, trials, tune_minutes) if tune else None,
        console=console,
    )
    emit(result, as_json, lambda r: pairs({k: v for k, v in r.items() if not isinstance(v, list | dict)}))


@app.command()
def report(
    markdown: Annotated[
        Path | None, typer.Option(help="Write the figures to this Markdown file too, e.g. docs/results.md.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Which model was chosen and why: the page of the last training, made anew; starts no JVM."""
    from sentiment_assets.local.report import make_report
    from sentiment_assets.reports.pages import origin

    command = "sentiment-assets report" + (f" --markdown {markdown}" if markdown else "")
    result = make_report(Settings.from_env(), made=origin(command), markdown_file=markdown)
    if open_page:
        typer.launch(result["page"])

    def words(found: dict[str, Any]) -> None:
        # Plain lines: a path is there to be copied whole, however narrow the terminal.
        for name, value in found.items():
            open_console().print(Text(f"{name:12}{value if value is not None else '-'}"))

    emit(result, as_json, words)


@app.command()
def protocol(
    split: Annotated[
        list[SplitName] | None,
        typer.Option(
            help="published: randomSplit, seed 2000, duplicates kept; author: no author on both sides; text: as the "
            "assets split. May be given several times; default: published and author."
        ),
    ] = None,
    candidates: Annotated[
        str | None,
        typer.Option(
            help="By comma, or 'table': every published cell and ours. Default: the best published and ours."
        ),
    ] = None,
    data: Data = None,
    manual: Annotated[
        Path | None, typer.Option(help="A file labelled by hand to measure every fitted candidate on too.")
    ] = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Measure candidates by other protocols: the published split, a split by author, tweets labelled by hand."""
    from sentiment_assets.local.protocol import measure_protocols

    settings = Settings.from_env()
    result = measure_protocols(
        settings,
        data=data,
        splits=[name.value for name in split or [SplitName.published, SplitName.author]],
        candidates=candidates,
        manual=manual,
        encoding=encoding,
        console=console,
    )

    def words(found: dict[str, Any]) -> None:
        pairs({"source": found["source"]})
        for f in found["figures"]:
            interval = f"95 % interval {f['ci95_low']:.4f} to {f['ci95_high']:.4f}, n = {f['n']:,}"
            seconds = f["features_seconds"] + f["fit_seconds"]
            open_console().print(
                Text(
                    f"{f['split']:20} {f['candidate']:32} {f['accuracy']:.4f} ({interval}), {seconds:.1f} s to fit"
                )
            )

    emit(result, as_json, words)


@app.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="Labelled file in Sentiment140's format.")],
    model: Annotated[str | None, typer.Option(help="Version of the model; default: the chosen one.")] = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Score a labelled file and report accuracy with its 95 % interval; neutral rows are left out, counted."""
    from sentiment_assets.local.scoring import evaluate_file

    settings = Settings.from_env()
    found = evaluate_file(settings, file, version=model, encoding=encoding or settings.encoding)
    emit(found, as_json, pairs)


@app.command()
def score(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; none: one per line of stdin.")] = None,
    model: Annotated[str | None, typer.Option(help="Version of the model; default: the chosen one.")] = None,
    as_json: Json = False,
) -> None:
    """Sentiment and probability of each text, with the terms that decided."""
    from sentiment_assets.local.scoring import score_texts

    lines = texts or lines_of_stdin()
    result = score_texts(Settings.from_env(), lines, version=model)

    def words(found: dict[str, Any]) -> None:
        out = open_console()
        for row in found["scores"]:
            style = {"positive": "green", "negative": "red"}.get(row["sentiment"], "")
            terms = ", ".join(f"{t['term']} {t['contribution']:+.2f}" for t in row["terms"]) or row["note"]
            head = (f"{row['sentiment']:9}", style)
            out.print(Text.assemble(head, f" {row['probability']:.3f}  {printable(row['text'])}"))
            out.print(Text(f"                 {printable(terms)}", style="dim"))

    emit(result, as_json, words)


def lines_of_stdin() -> list[str]:
    """Texts on the standard input, a line each, in UTF-8 whatever the locale says.

    Raises
    ------
    SourceError
        When it is not UTF-8; names the line.
    """
    try:
        texts = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"Line {line} of the standard input is not UTF-8 ({error.reason}).",
            "Convert it first, for example with `iconv --from-code latin1 --to-code utf-8`.",
        ) from error
    # Not `splitlines`: a text may contain U+2028 and its like.
    return [line.rstrip("\n") for line in io.StringIO(texts, newline=None)]


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="File in Sentiment140's format.")],
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Tweets a second; default: at full speed.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many: a sample, or beyond the file's rows the file again.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the shuffle.")] = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Produce the tweets of a labelled file to the topic, shuffled, each exactly once unless --limit is larger."""
    from sentiment_assets.local.scoring import replay_to_topic

    settings = Settings.from_env()
    result = replay_to_topic(
        settings,
        file,
        rate=rate,
        limit=limit,
        seed=seed,
        encoding=encoding or settings.encoding,
        console=console,
    )
    emit(result, as_json, pairs)


@app.command()
def stream(
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="Stop when every message is scored.")
    ] = False,
    lease_seconds: Annotated[int | None, typer.Option(min=1, help="Longest life in seconds.")] = None,
    model: Annotated[str | None, typer.Option(help="Version of the model; default: the chosen one.")] = None,
    as_json: Json = False,
) -> None:
    """Run one lease of the stream in the foreground: the same code as the asset `predictions`."""
    from sentiment_assets.local.scoring import stream_once

    result = stream_once(
        Settings.from_env(),
        until_drained=until_drained,
        lease_seconds=lease_seconds,
        version=model,
        console=console,
    )
    emit(result, as_json, pairs)


@app.command()
def status(as_json: Json = False) -> None:
    """Broker, lag, stream, model and tables; starts no JVM."""
    from sentiment_assets.streaming.status import read_status

    emit(read_status(Settings.from_env()), as_json, status_words)


def status_words(found: dict[str, Any]) -> None:
    """The state of the product for a person: what runs, how far it is, what is in the tables."""
    stream, number = found["stream"], "{:,}".format
    standby = found["standby"]
    waits = f"; run {(standby['run_id'] or '?')[:8]} takes over next ({standby['state']})" if standby else ""
    lag = "unknown" if found["lag"] is None else number(found["lag"])
    behind = ", ".join(f"partition {p['partition']}: {p['lag']:,}" for p in found["partitions"])
    age = stream["heartbeat_age_seconds"]
    seen = "" if age is None else f", last sign of life {age:.0f} s ago"
    run = f", run {stream['run_id'][:8]}" if stream["run_id"] else ""
    pairs(
        {
            "kafka": f"{found['broker']}, {found['bootstrap'] or 'no address'}, topic {found['topic']}"
            + (f": {found['broker_problem']}" if found["broker_problem"] else ""),
            "lag": f"{lag} messages" + (f" ({behind})" if behind else ""),
            "stream": f"{stream['state']}{run}{seen}"
            + (f": {stream['detail']}" if stream["detail"] else "")
            + waits,
            "model": found["model"] or found["model_problem"] or "none is chosen yet",
            "scored by": stream["scorer"] or "nothing yet",
        }
        | ({"tables": found["table_problem"]} if found["table_problem"] else _table_words(found))
    )


def _table_words(found: dict[str, Any]) -> dict[str, str]:
    number = "{:,}".format
    share = "" if found["share_positive"] is None else f", {found['share_positive']:.1%} positive"
    version = "" if found["table_version"] is None else f", version {found['table_version']} of the table"
    sound = "every offset exactly once" if not found["gaps"] and not found["duplicates"] else "NOT SOUND"
    return {
        "predictions": f"{number(found['predictions'])}{share}{version}",
        "dead letters": f"{number(found['dead_letters'])}, {number(found['pending'])} under way",
        "offsets": f"{sound}: {number(found['gaps'])} gaps, {number(found['duplicates'])} duplicates",
    }


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """All stored models, the newest first."""
    from sentiment_assets.models.store import ModelStore

    store = ModelStore(Settings.from_env().models)
    chosen = store.chosen()
    rows = [
        {
            "version": m.version,
            "chosen": m.version == chosen,
            "accuracy": m.metrics.get("accuracy"),
            "ci95_low": m.metrics.get("ci95_low"),
            "ci95_high": m.metrics.get("ci95_high"),
            "n": m.metrics.get("n"),
            "unseen_accuracy": m.metrics.get("report_accuracy"),
            "unseen_ci95_low": m.metrics.get("report_ci95_low"),
            "unseen_ci95_high": m.metrics.get("report_ci95_high"),
            "unseen_n": m.metrics.get("report_n"),
            "rows_train": m.rows_train,
            "source": m.source.note,
        }
        for m in store.versions(kind="candidate")
    ]

    def words(result: dict[str, Any]) -> None:
        out = open_console()
        widest = max((len(str(row["version"])) for row in rows), default=0)
        for row in result["models"]:
            # Plain lines: a version is there to be copied whole, however narrow the terminal.
            out.print(
                Text.assemble(
                    "-> " if row["chosen"] else "   ",
                    (row["version"].ljust(widest), "bold" if row["chosen"] else ""),
                    f"  accuracy {_figure(row['unseen_accuracy'])} (95 % interval {_figure(row['unseen_ci95_low'])} to "
                    f"{_figure(row['unseen_ci95_high'])}, n = {row['unseen_n']} tweets that no decision has seen), "
                    f"trained on {row['rows_train']:,} tweets; {row['source']}",
                )
            )
        if not rows:
            note("No model is stored yet. Run `sentiment-assets train` or `make run`.")

    emit({"chosen": chosen, "models": rows}, as_json, words)


def _figure(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"


@models_app.command("promote")
def models_promote(
    version: str,
    force: Annotated[bool, typer.Option("--force", help="Also one above the leakage ceiling.")] = False,
    as_json: Json = False,
) -> None:
    """Make a stored version the chosen model; a running stream changes over at a batch boundary."""
    from sentiment_assets.local.scoring import promote_stored

    emit(promote_stored(Settings.from_env(), version, force=force, console=console), as_json, pairs)


@models_app.command("rollback")
def models_rollback(as_json: Json = False) -> None:
    """Make the previously chosen model the chosen one again."""
    from sentiment_assets.models.store import ModelStore
    from sentiment_assets.streaming.serving import check_fit

    store = ModelStore(Settings.from_env().models)
    emit({"chosen": store.rollback(lambda version: check_fit(store, version))}, as_json, pairs)


@models_app.command("compile")
def models_compile(
    version: Annotated[
        str | None, typer.Argument(help="A stored version; the chosen one if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile a version for fast scoring and show that it scores like its pipeline; promotion does this by itself."""
    from sentiment_assets.local.scoring import compile_stored

    emit(compile_stored(Settings.from_env(), version=version), as_json, pairs)


@app.command()
def reset(
    stream: Annotated[
        bool, typer.Option("--stream", help="Position in the topic, checkpoint and tables, as one unit.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All of SENTIMENT_HOME: models, runs, topic too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget the stream's results, or everything."""
    from sentiment_assets.local.reset import reset_everything
    from sentiment_assets.streaming.reset import reset_stream

    if stream == everything:
        raise typer.BadParameter("give exactly one of --stream and --all")
    settings = Settings.from_env()
    what = f"everything in {settings.root}" if everything else "predictions, dead letters and their position"
    if not yes:
        if not sys.stdin.isatty():
            raise SetupError(
                f"Nobody is there to say whether to delete {what}.", "Give --yes; nothing was deleted."
            )
        if not typer.confirm(f"Delete {what}?", err=True):
            raise SetupError("Nothing was deleted.", "Answer y, or give --yes.")
    (reset_everything if everything else reset_stream)(settings)
    note(f"Deleted {what}.")


@bench_app.command("train")
def bench_train(
    data: Data = None,
    rows: Annotated[str, typer.Option(help="Rows to train on, or 'all'.")] = "all",
    as_json: Json = False,
) -> None:
    """Time to fit and accuracy of the published recipe and of ours, on the same rows."""
    from sentiment_assets.local.bench import bench_training

    emit(
        bench_training(Settings.from_env(), data=data, rows=row_limit(rows), console=console), as_json, pairs
    )


@bench_app.command("stream")
def bench_stream(
    data: Data = None,
    messages: Annotated[int, typer.Option(min=1000, help="Messages to drain.")] = 300_000,
    as_json: Json = False,
) -> None:
    """Rows per second when draining a full topic with the chosen model, cold start included."""
    from sentiment_assets.local.bench import bench_drain

    emit(bench_drain(Settings.from_env(), data=data, messages=messages, console=console), as_json, pairs)


@bench_app.command("latency")
def bench_latency(
    data: Data = None,
    rate: Annotated[float, typer.Option(min=1, help="Messages a second.")] = 1000.0,
    seconds: Annotated[int, typer.Option(min=10, help="How long to measure, after the warm-up.")] = 120,
    as_json: Json = False,
) -> None:
    """Seconds from Kafka's timestamp until a prediction is visible in the Delta table: p50, p95, p99."""
    from sentiment_assets.local.bench import bench_latency

    result = bench_latency(Settings.from_env(), data=data, rate=rate, seconds=seconds, console=console)
    emit(result, as_json, pairs)


@app.command("code-server")
def code_server(
    host: Annotated[str, typer.Option(help="Address that the gRPC server listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 4000,
) -> None:
    """Serve the code location as a service of a deployment; SIGTERM lets the stream finish its batch."""
    from sentiment_assets.local.code_server import serve_code

    raise typer.Exit(serve_code(Settings.from_env(), host=host, port=port))


@app.command("first-training")
def first_training(
    host: Annotated[str, typer.Option(help="Where Dagster's web server is.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 3000,
    data: Data = None,
    rows: Rows = None,
    profile: Profile = "quick",
    encoding: Encoding = None,
) -> None:
    """Train through a running Dagster unless a model is chosen: what a deployment does once."""
    from sentiment_assets.local.first_training import first_training

    settings = Settings.from_env()
    first_training(
        settings,
        host=host,
        port=port,
        data=data,
        rows=_rows(settings, rows, otherwise=_ROWS),
        encoding=encoding,
        profile=profile,
        console=console,
    )


@app.command()
def version() -> None:
    """The version of this installation."""
    sys.stdout.write(f"{__version__}\n")
