"""How every command prints its result: one JSON object, or words."""

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Table as RichTable
from rich.text import Text

from sentiment_assets.terminal import open_console

console = open_console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]


def emit(result: dict[str, Any], as_json: bool, words: Callable[[dict[str, Any]], None]) -> None:
    """Print a result as JSON on stdout, or in words."""
    if as_json:
        sys.stdout.write(json.dumps(result, default=str) + "\n")
    else:
        words(result)


def pairs(result: dict[str, Any]) -> None:
    """Show a flat result as aligned names and values on stdout."""
    table = RichTable.grid(padding=(0, 2))
    for name, value in result.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        table.add_row(Text(name, style="dim"), Text(shown))
    open_console().print(table)


def note(text: str) -> None:
    """One line of progress on stderr; text from outside is never markup."""
    console.print(Text(text))
