"""``sentiment-assets ingest``: live posts into the topic."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sentiment_assets.commands.options import Encoding
from sentiment_assets.commands.output import Json, emit, note, pairs
from sentiment_assets.commands.signals import stop_on_signals
from sentiment_assets.failures import BrokerError
from sentiment_assets.settings import Settings

if TYPE_CHECKING:
    from sentiment_assets.sources.live import Source

app = typer.Typer(
    no_args_is_help=True,
    help="Bring live posts into the topic until Ctrl-C; what Kafka cannot take waits on disk.",
)

Limit = Annotated[int | None, typer.Option(min=1, help="End after so many posts; default: never.")]


@app.command("x")
def ingest_x(
    rule: Annotated[
        list[str] | None, typer.Option(help="A rule of the filtered stream; may be given several times.")
    ] = None,
    rules_file: Annotated[Path | None, typer.Option(help="File with one rule a line.")] = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Posts from X's filtered stream; the token comes from SENTIMENT_X_BEARER_TOKEN.

    The rules at X become those that are given; without any, the rules that are there stay.
    """
    from sentiment_assets.ingest.sources import x_source

    settings = Settings.from_env()
    _run(settings, x_source(settings, rule or (), rules_file), limit, as_json)


@app.command("jetstream")
def ingest_jetstream(
    language: Annotated[
        list[str] | None, typer.Option(help="Only these languages, or 'all'; the models know English.")
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Public posts of Bluesky; no key is needed."""
    from sentiment_assets.ingest.sources import jetstream_source

    settings = Settings.from_env()
    wanted = language or ["en"]
    _run(settings, jetstream_source(settings, () if "all" in wanted else wanted), limit, as_json)


@app.command("file")
def ingest_file(
    file: Annotated[
        str | None,
        typer.Argument(
            help="CSV or zip in Sentiment140's format, or 'sample'; default: the source of the training."
        ),
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=1e-6, help="Original pace by the tweets' dates, so many times faster.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Tweets a second.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end.")] = False,
    shuffle: Annotated[bool, typer.Option(help="Random order; not with --speed.")] = True,
    seed: Annotated[int | None, typer.Option(help="Seed of the shuffle.")] = None,
    limit: Limit = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Tweets of a file as if they were live; with neither --speed nor --rate as fast as Kafka takes them."""
    from sentiment_assets.ingest.file import FileReplay
    from sentiment_assets.sources import resolve
    from sentiment_assets.sources.sentiment140 import inspect

    if speed is not None and rate is not None:
        raise typer.BadParameter("give --speed or --rate, not both")
    settings = Settings.from_env()
    found = resolve(settings.prepare(), file, note)
    note(f"Replaying {found.note}")
    encoding = encoding or found.encoding
    inspect(found.path, encoding=encoding, both_labels=False)
    source = FileReplay(
        found.path,
        encoding,
        speed=speed,
        rate=rate,
        loop=loop,
        shuffle=shuffle,
        seed=settings.seed if seed is None else seed,
        limit=limit,
    )
    _run(settings, source, limit, as_json)


@app.command("spool")
def ingest_spool(
    source: Annotated[Literal["x", "jetstream", "file"], typer.Argument(help="Whose spool.")],
    as_json: Json = False,
) -> None:
    """What an earlier ingest of a source has left on disk, and nothing new."""
    from sentiment_assets.ingest.sources import Nothing

    _run(Settings.from_env(), Nothing(source), None, as_json)


def _run(settings: Settings, source: "Source", limit: int | None, as_json: bool) -> None:
    from sentiment_assets.ingest import ingest

    with stop_on_signals() as stop:
        result = ingest(
            settings,
            source,
            stop,
            limit=limit,
            # A file may hold an id twice, and a loop repeats all of them on purpose.
            distinct=source.name != "file",
            on_progress=lambda figures: note(figures.text),
        )
    emit(vars(result), as_json, pairs)
    if result.spooled and not stop.is_set():
        raise BrokerError(
            f"Kafka has not taken everything: {result.spooled:,} posts of {source.name} are kept in the spool.",
            f"When Kafka is there, `sentiment-assets ingest spool {source.name}` delivers them and takes nothing new; "
            "the next ingest of that source delivers them first.",
        )
