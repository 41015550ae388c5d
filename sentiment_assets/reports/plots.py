"""The drawings of a report, as SVG that a page carries inside itself.

Belongs here: how figures are drawn. Does not belong here: what they show (``content``) or where they stand (``pages``).

Matplotlib, because its SVG is small (10 to 30 KB a drawing), sharp at every size, needs no script in the browser and
keeps its text as text; a page of plotly's carries 4 MB of script, bokeh's 1 MB, and neither can be printed or read
with scripts off.
"""

import base64
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiment_assets.reports.content import Entry, TrainingReport
from sentiment_assets.reports.studies import LearningPoint
from sentiment_assets.spark.curves import precision_recall, reliability, roc
from sentiment_assets.spark.evaluation import REPORT, ScoreCounts
from sentiment_assets.spark.neutral import apply_band

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHOSEN, OTHER, FAINT, WARM = "#0b5cad", "#8a94a3", "#d9dee5", "#c2571a"
_COMPARED = 5
"""Curves in one drawing; more cannot be told apart."""
_WIDTH = 5.0
"""Inches: 360 points, the width of a phone, so that ten-point text stays ten points there."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sentiment-assets",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5b6573",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "xtick.color": "#3a4350",
    "ytick.color": "#3a4350",
    "text.parse_math": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
}


def draw_all(report: TrainingReport, cache: Path) -> dict[str, str]:
    """Every drawing that the report has figures for, as data URIs by name.

    Parameters
    ----------
    report
        What is drawn.
    cache
        Folder for matplotlib's list of fonts, which would go to the user's home otherwise.
    """
    os.environ.setdefault("MPLCONFIGDIR", str(cache))
    cache.mkdir(parents=True, exist_ok=True)
    found = {"leaderboard": _leaderboard(report.entries)}
    # The chosen one first: however many rank above it, it is on its own page.
    compared = sorted((e for e in report.entries if e.scores is not None), key=lambda e: not e.chosen)[
        :_COMPARED
    ]
    if report.chosen.scores is not None:
        counts = report.chosen.scores.half(REPORT).counts()
        found |= {
            "roc": _curves(compared, _roc),
            "precision_recall": _curves(compared, _precision_recall),
            "reliability": _reliability(counts),
            "neutral": _neutral(counts, report.neutral.band if report.neutral else 0.0),
        }
    if report.learning_curve:
        found["learning_curve"] = _learning_curve(report.learning_curve)
    return found


@contextmanager
def _axes(height: float) -> "Iterator[tuple[Figure, Axes]]":
    # Imported late: matplotlib looks for fonts when it is loaded, and definitions are loaded without a report.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, figure.add_subplot()


def _uri(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _percent(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _whole_percents() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, steps=[1, 2, 5, 10], min_n_ticks=2)


def _leaderboard(entries: Sequence[Entry]) -> str:
    shown = [e for e in entries if "report_accuracy" in e.figures][::-1]
    with _axes(0.9 + 0.3 * len(shown)) as (figure, axes):
        for place, entry in enumerate(shown):
            accuracy, low, high = (
                entry.figures[name] for name in ("report_accuracy", "report_ci95_low", "report_ci95_high")
            )
            colour = CHOSEN if entry.chosen else OTHER
            axes.errorbar(
                accuracy, place, xerr=[[accuracy - low], [high - accuracy]], fmt="o", color=colour, capsize=3
            )
        axes.set_yticks(range(len(shown)), [e.manifest.name for e in shown])
        for label, entry in zip(axes.get_yticklabels(), shown, strict=True):
            label.set_fontsize(8)
            if entry.chosen:
                label.set_fontweight("bold")
                label.set_color(CHOSEN)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("tweets called right, with 95 % interval")
        axes.xaxis.set_major_locator(_whole_percents())
        _percent(axes.xaxis)
        return _uri(figure)


def _curves(entries: Sequence[Entry], draw: "Callable[[Axes, ScoreCounts, dict[str, Any]], None]") -> str:
    with _axes(4.3) as (figure, axes):
        greys = iter(("#5b6573", "#8a94a3", "#aab3bf", "#c6cdd6", "#c6cdd6"))
        dashes = iter(("--", "-.", ":", (0, (5, 1)), (0, (1, 1))))
        for entry in entries:
            if entry.scores is None:
                continue
            look: dict[str, Any] = (
                {"color": CHOSEN, "zorder": 3}
                if entry.chosen
                else {"color": next(greys), "linestyle": next(dashes), "linewidth": 1.2}
            )
            draw(axes, entry.scores.half(REPORT).counts(), look | {"label": entry.manifest.name})
        _percent(axes.xaxis)
        _percent(axes.yaxis)
        axes.set_xlim(0, 1)
        axes.legend(loc="lower right" if draw is _roc else "lower left")
        return _uri(figure)


def _roc(axes: "Axes", counts: ScoreCounts, look: dict[str, Any]) -> None:
    curve = roc(counts)
    axes.plot(curve.x, curve.y, **look)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=1)
    axes.set(xlabel="negative tweets called positive", ylabel="positive tweets found", ylim=(0, 1.01))


def _precision_recall(axes: "Axes", counts: ScoreCounts, look: dict[str, Any]) -> None:
    curve = precision_recall(counts)
    # The first thresholds call a handful of tweets: their precision jumps and says nothing.
    steady = curve.x > 0.02
    axes.plot(curve.x[steady], curve.y[steady], **look)
    axes.set(
        xlabel="positive tweets found (recall)",
        ylabel="of those called, right (precision)",
        ylim=(0.45, 1.01),
    )


def _reliability(counts: ScoreCounts) -> str:
    bins = reliability(counts)
    with _axes(4.3) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=FAINT, label="said = true")
        predicted = np.array([b.predicted for b in bins])
        observed = np.array([b.observed for b in bins])
        bars = [[b.observed - b.ci95_low for b in bins], [b.ci95_high - b.observed for b in bins]]
        axes.errorbar(predicted, observed, yerr=bars, fmt="o-", color=CHOSEN, capsize=3, label="chosen model")
        rows = axes.twinx()
        rows.bar(
            [(b.low + b.high) / 2 for b in bins], [b.n for b in bins], width=0.09, color=FAINT, alpha=0.6
        )
        rows.set_ylim(0, 4 * max(b.n for b in bins))
        rows.set_yticks([])
        rows.grid(visible=False)
        axes.set_zorder(rows.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.set(
            xlabel="P(positive) as the model says it; bars: tweets",
            ylabel="share that is positive",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        _percent(axes.xaxis)
        _percent(axes.yaxis)
        axes.legend(loc="upper left")
        return _uri(figure)


def _neutral(counts: ScoreCounts, band: float) -> str:
    widths = np.arange(0, 0.5, 0.01)
    found = [apply_band(counts, float(width)) for width in widths]
    with _axes(3.4) as (figure, axes):
        axes.plot(
            widths, [n.accuracy_outside for n in found], color=CHOSEN, label="right, of the tweets called"
        )
        axes.plot(widths, [1 - n.share for n in found], color=OTHER, linestyle="--", label="tweets called")
        if band:
            axes.axvline(band, color=WARM, linewidth=1.2, label=f"band of this model: {band:.2f}")
        axes.set(xlabel="half the width of the neutral band around 50 %", xlim=(0, 0.5), ylim=(0, 1.01))
        _percent(axes.yaxis)
        axes.legend(loc="lower left")
        return _uri(figure)


def _learning_curve(points: Sequence[LearningPoint]) -> str:
    with _axes(3.4) as (figure, axes):
        accuracy = [p.accuracy for p in points]
        bars = [[p.accuracy - p.ci95_low for p in points], [p.ci95_high - p.accuracy for p in points]]
        axes.errorbar([p.rows for p in points], accuracy, yerr=bars, fmt="o-", color=CHOSEN, capsize=3)
        axes.set_xscale("log")
        axes.set_xticks([p.rows for p in points], [f"{p.rows:,}" for p in points])
        axes.minorticks_off()
        axes.set(xlabel="training tweets", ylabel="test tweets called right")
        axes.yaxis.set_major_locator(_whole_percents())
        _percent(axes.yaxis)
        return _uri(figure)
