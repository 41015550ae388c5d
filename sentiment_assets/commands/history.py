"""``rescore`` and ``backfill``: scores of the past."""

from pathlib import Path
from typing import Annotated

import typer

from sentiment_assets.commands.options import Encoding
from sentiment_assets.commands.output import Json, console, emit, pairs
from sentiment_assets.settings import Settings

Model = Annotated[str | None, typer.Option(help="Version of the model; default: the chosen one.")]


def rescore(
    begin: Annotated[
        str | None,
        typer.Option(
            "--from", help="Time of the first message (ISO 8601, UTC) or a table version; default: all."
        ),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Time or table version to end before or at; default: all.")
    ] = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Score past predictions anew, as one commit; the old scores stay readable at the version before.

    By time: messages that Kafka took at or after --from and before --to. By version: rows that the table got after
    version --from, up to version --to. Killed, the same command goes on where it was. Works beside a running stream,
    which then does the commit.
    """
    from sentiment_assets.local.history import rescore
    from sentiment_assets.streaming.rescore import Bound

    bounds = []
    for option, text in (("--from", begin), ("--to", end)):
        try:
            bounds.append(Bound.parse(text))
        except ValueError as error:
            raise typer.BadParameter(
                f"{text!r} is neither a time (2026-11-24T12:00:00Z) nor a table version", param_hint=option
            ) from error
    emit(rescore(Settings.from_env(), bounds[0], bounds[1], model, console), as_json, pairs)


def backfill(
    file: Annotated[
        Path, typer.Argument(help="File in Sentiment140's format, or .jsonl with a message value a line.")
    ],
    model: Model = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Score a file's messages into the tables at full speed, past the live topic.

    The rows carry the topic `backfill:<digest of the file>`; the same file again replaces its own rows.
    """
    from sentiment_assets.local.history import backfill

    settings = Settings.from_env()
    emit(backfill(settings, file, model, encoding or settings.encoding, console), as_json, pairs)
