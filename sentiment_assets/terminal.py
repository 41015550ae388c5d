"""Consoles on which text from outside is text: a tweet or a file name cannot drive the terminal.

Belongs here: how lines reach the terminal, log records included. Does not belong here: what they say (``cli``).
"""

import logging

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.segment import Segment
from rich.text import Text

_JOINER = "\N{ZERO WIDTH JOINER}"
_LAID_OUT = f"{_JOINER}\n\t"


def printable(text: str, keep: str = _JOINER) -> str:
    """The text on one line, without control characters: no escape sequence, no bidirectional override.

    Parameters
    ----------
    keep
        Characters that stay; the joiner holds emoji together.
    """
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def open_console(*, stderr: bool = False) -> Console:
    """A console that breaks no line of its own and lets no control character of a text through."""
    console = Console(stderr=stderr, soft_wrap=True)
    console.push_render_hook(_WithoutControls())
    return console


class LineHandler(logging.Handler):
    """Log records as one unwrapped line each, the level in front."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "red" if record.levelno >= logging.ERROR else "yellow"
        line = Text.assemble((f"{record.levelname.lower()}: ", style), self.format(record))
        self._console.print(line)


class _WithoutControls(RenderHook):
    """Cleans what is printed after it was laid out, so that rich's own styles and cursor moves stay."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Clean(one) for one in renderables]


class _Clean:
    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(printable(segment.text, _LAID_OUT), segment.style)
