"""``dead-letters list`` and ``dead-letters replay``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sentiment_assets.commands.output import Json, emit, note, pairs
from sentiment_assets.settings import Settings
from sentiment_assets.terminal import printable

app = typer.Typer(no_args_is_help=True, help="Messages that could not be scored: look, mend, put back.")

Reason = Annotated[str | None, typer.Option(help="Only letters with this reason, as `list` shows it.")]
_SHOWN_CHARACTERS = 200


@app.command("list")
def letters_list(
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=0, help="Letters to show; counts are of all.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="Write all of them to this file, a JSON object a line, to be mended.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Reasons with their counts, and letters with position and value."""
    from sentiment_assets.streaming import mending

    settings = Settings.from_env()
    replayed = mending.replayed_places(settings)
    reasons = mending.count_by_reason(settings)
    letters = [
        mending.as_line(letter) | {"replayed": replayed.get(letter.place)}
        for letter in mending.read_letters(settings, reason=reason, limit=limit)
    ]
    written = None if out is None else mending.export(settings, out, reason=reason)

    def words(found: dict[str, Any]) -> None:
        if not found["dead_letters"]:
            note("There are no dead letters.")
            return
        pairs({"dead letters": found["dead_letters"], "replayed": found["replayed"], **found["reasons"]})
        for letter in found["letters"]:
            back = f" (replayed {letter['replayed']})" if letter["replayed"] else ""
            value = printable(str(letter["value"]))[:_SHOWN_CHARACTERS]
            place = f"{letter['topic']} partition {letter['partition']} offset {letter['offset']}"
            pairs({place + back: "", "  reason": letter["reason"], f"  {letter['encoding']}": value})
        if out is not None:
            note(f"Wrote {written:,} letters to {out}. Mend `value`, then: dead-letters replay {out}")

    emit(
        {
            "dead_letters": sum(reasons.values()),
            "replayed": len(replayed),
            "reasons": reasons,
            "letters": letters,
            "written": written,
        },
        as_json,
        words,
    )


@app.command("replay")
def letters_replay(
    file: Annotated[
        Path | None, typer.Argument(help="Mended file of `list --out`; none: all letters as they are.")
    ] = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Put letters back into the topic, each once: a letter that is back already is left out."""
    from sentiment_assets.local.scoring import running_broker
    from sentiment_assets.runtime.instance import only_one
    from sentiment_assets.streaming import mending

    settings = Settings.from_env().prepare()
    with only_one(settings, "dead-letters replay"):
        result = mending.replay(settings, running_broker(settings), file, reason=reason)
    emit(vars(result), as_json, pairs)
