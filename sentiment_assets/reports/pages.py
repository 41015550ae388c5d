"""The report as pages: one self-contained HTML file, and Markdown for the repository.

Belongs here: rendering and writing. Does not belong here: what they say (``content`` and the templates).

Tweets and terms are shown as text: Jinja2 escapes every value of the HTML page, whose policy allows no script, and
the Markdown page puts terms into code spans.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from sentiment_assets.reports import published
from sentiment_assets.reports.content import TrainingReport, percent, points
from sentiment_assets.reports.plots import draw_all
from sentiment_assets.settings import Settings

LATEST = "latest.html"


@dataclass(frozen=True)
class Origin:
    """Where a report comes from: the command that makes it again, and the moment."""

    command: str
    at: datetime


def origin(command: str) -> Origin:
    """An origin of now."""
    return Origin(command, datetime.now(UTC))


def write_page(report: TrainingReport, settings: Settings, made: Origin) -> Path:
    """Write ``reports/<version of the chosen model>.html`` and the same as ``latest.html``.

    Returns
    -------
    Path
        The page of the version.
    """
    settings.reports.mkdir(parents=True, exist_ok=True)
    drawings = draw_all(report, settings.root / "tmp" / "matplotlib")
    html = (
        _environment()
        .get_template("training.html.jinja")
        .render(report=report, drawings=drawings, published=published, made=made, settings=settings)
    )
    page = settings.reports / f"{report.chosen.manifest.version}.html"
    for path in (page, settings.reports / LATEST):
        part = path.with_suffix(".part")
        part.write_text(html, encoding="utf-8")
        part.replace(path)
    return page


def markdown(report: TrainingReport, made: Origin) -> str:
    """The figures of the report as Markdown."""
    return (
        _environment().get_template("results.md.jinja").render(report=report, published=published, made=made)
    )


def summary(report: TrainingReport) -> str:
    """The verdict alone, as Markdown for the UI."""
    return _environment().get_template("summary.md.jinja").render(report=report)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sentiment_assets.reports"),
        autoescape=select_autoescape(enabled_extensions=("html.jinja",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "number": lambda value: f"{value:,}",
        "four": lambda value: "–" if value is None else f"{value:.4f}",  # noqa: RUF001  a dash for no figure
        "seconds": lambda value: "–" if value is None else f"{value:,.1f}",  # noqa: RUF001
        "code": _code_span,
    }
    return environment


def _code_span(text: str) -> str:
    """A term as a Markdown code span inside a table: no character of it is markup."""
    fence = "``" if "`" in text else "`"
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text.replace('|', chr(92) + '|')}{pad}{fence}"
