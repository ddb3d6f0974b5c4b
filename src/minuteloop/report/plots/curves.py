"""Curves as a figure: accuracy and loss against training seconds and against steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from minuteloop.records.plots.figure import Canvas
from minuteloop.report.curves import COLUMNS, Curve
from minuteloop.report.plots.style import COLOURS, LABEL, SMALL, WIDTH, caption, plain_axes, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT, GAP, HEIGHT = 0.5, 0.4, 2.0  # inches: left of panels, between them, of a panel
FOOT, HEAD, LINE = 0.45, 0.1, 0.17  # inches: below and above a panel; a line of the legend
WORDS = 0.2  # inches: more above a panel that has a name
STYLES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))  # after each round of colours
PER_LINE = 3  # arms in a line of the legend
MAX_MARKED = 12  # points of a line with a marker at each
MAX_BANDS = 6  # arms of a panel with bands; more would hide each other


def plot_curves(groups: Sequence[tuple[str, list[Curve]]], title: str) -> Figure:
    """Draw two panels, by seconds and by steps, for each column of each (words, curves of a group)."""
    labels = list(dict.fromkeys(curve.arm.label for _, own in groups for curve in own))
    rows = [(words, column, own) for words, own in groups for column in _columns(own)]
    legend = LINE * -(-len(labels) // PER_LINE) + 0.1
    height = legend + sum(_above(words) + HEIGHT + FOOT for words, _, _ in rows)
    bands = "smallest to largest seed" if len(labels) <= MAX_BANDS else f"left out, more than {MAX_BANDS} arms"
    subtitle = f"lines: mean over seeds; bands: {bands}"
    canvas = Canvas(WIDTH, height, title, subtitle, caption([curve.arm for _, own in groups for curve in own]))
    width, bottom = (WIDTH - LEFT - GAP - 0.1) / 2, height - legend
    for words, column, own in rows:
        bottom -= _above(words) + HEIGHT + FOOT
        left, right = (canvas.axes(LEFT + index * (width + GAP), bottom + FOOT, width, HEIGHT) for index in range(2))
        left.set_ylabel(COLUMNS[column], fontsize=SMALL)
        left.yaxis.set_label_coords(-0.11, 0.5)
        curves = [curve for curve in own if curve.column == column]
        _draw_curves(left, curves, "seconds", labels)
        _draw_curves(right, curves, "steps", labels)
        if words:
            canvas.text(0, bottom + FOOT + HEIGHT + 0.08, words, fontsize=LABEL, weight="bold", va="bottom")
    _legend(canvas, labels, height)
    return canvas.figure


def _above(words: str) -> float:
    return HEAD + (WORDS if words else 0)


def _columns(own: list[Curve]) -> list[str]:
    return [column for column in COLUMNS if any(curve.column == column for curve in own)]


def _style(labels: list[str], label: str) -> dict:
    index = labels.index(label)
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index // len(COLOURS) % len(STYLES)]}


def _draw_curves(axes: Axes, curves: list[Curve], axis: str, labels: list[str]) -> None:
    """Draw curves against their `axis`, seconds or steps."""
    for curve in curves:
        x, style = getattr(curve, axis), _style(labels, curve.arm.label)
        marker = "o" if len(x) <= MAX_MARKED else ""
        axes.plot(x, curve.mean, marker=marker, markersize=2.5, linewidth=1.2, label=curve.arm.label, **style)
        if curve.n > 1 and len(labels) <= MAX_BANDS:
            axes.fill_between(x, curve.low, curve.high, color=style["color"], alpha=0.18, linewidth=0)
    axes.set_xlabel({"seconds": "training seconds", "steps": "steps"}[axis], fontsize=SMALL)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:,g}")
    plain_axes(axes)
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)


def _legend(canvas: Canvas, labels: list[str], height: float) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linewidth=1.4, **_style(labels, label)) for label in labels]
    canvas.figure.legend(
        handles,
        [shorten(label, 34) for label in labels],
        loc="upper left",
        bbox_to_anchor=canvas.place(0, height),
        ncols=PER_LINE,
        fontsize=SMALL,
        frameon=False,
        borderaxespad=0,
        columnspacing=1.5,
    )
