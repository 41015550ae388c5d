"""The training report from the command line: made anew from what the last training left; no JVM is started."""

from pathlib import Path
from typing import Any

from sentiment_assets.local.instance import open_instance
from sentiment_assets.models.store import ModelStore
from sentiment_assets.reports.pages import Origin, markdown, write_page
from sentiment_assets.resources.reporting import current_report
from sentiment_assets.settings import Settings


def make_report(settings: Settings, *, made: Origin, markdown_file: Path | None) -> dict[str, Any]:
    """Write the page, and the Markdown where one is asked for.

    Returns
    -------
    dict
        ``page``, ``markdown`` (None: not asked for), ``chosen``, ``candidates``.

    Raises
    ------
    TableError, ModelError
        When nothing was trained yet.
    """
    with open_instance(settings) as instance:
        report = current_report(settings, ModelStore(settings.models), instance)
    page = write_page(report, settings, made)
    if markdown_file is not None:
        markdown_file.parent.mkdir(parents=True, exist_ok=True)
        markdown_file.write_text(markdown(report, made), encoding="utf-8")
    return {
        "page": str(page),
        "markdown": str(markdown_file) if markdown_file else None,
        "chosen": report.chosen.manifest.version,
        "candidates": len(report.entries),
    }
