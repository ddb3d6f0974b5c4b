"""The arms as a figure: the accuracy of each run, and the mean of each arm with its 95 % interval."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from minuteloop.records.plots.figure import Canvas
from minuteloop.report.arms import Arm
from minuteloop.report.plots.style import BLUE, GREY, LABEL, SMALL, WIDTH, caption, plain_axes
from minuteloop.report.statistics.effects import interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEFT, FOOT, ROW, LINE = 2.9, 0.45, 0.14, 0.13  # inches: labels, below the axes, a row, and each line of its label
LABEL_WIDTH, MOST = 44, 176  # characters of a line, and of a label


def plot_arms(rows: Sequence[tuple[str, Arm]], title: str, metric: str) -> Figure:
    """Draw a row for each (label, arm): a dot for each run, and mean and 95 % interval of two or more."""
    labels = [_label(label, arm) for label, arm in rows]
    heights = [ROW + LINE * (label.count("\n") + 1) for label in labels]
    height = sum(heights)
    subtitle = "dots: runs; diamonds: mean of an arm, with its 95 % interval"
    canvas = Canvas(WIDTH, height + FOOT, title, subtitle, caption([arm for _, arm in rows]))
    axes = canvas.axes(LEFT, FOOT, WIDTH - LEFT - 0.1, height)
    places, top = [], 0.0
    for own in heights:
        places.append(top + own / 2)
        top += own
    for place, (_, arm) in zip(places, rows, strict=True):
        axes.plot(arm.percents, [place] * len(arm.runs), "o", color=GREY, markersize=3, alpha=0.7, zorder=1)
        if len(arm.runs) > 1:
            found = interval(arm.percents)
            ends = [[found.mean - found.low], [found.high - found.mean]]
            axes.errorbar(found.mean, place, xerr=ends, fmt="D", markersize=4, color=BLUE, capsize=3, zorder=2)
    plain_axes(axes)
    axes.set_yticks(places, labels, fontsize=LABEL, parse_math=False)
    axes.set_ylim(height, 0)
    axes.set_xlabel(f"{metric} (%)", fontsize=SMALL)
    return canvas.figure


def _label(label: str, arm: Arm) -> str:
    return textwrap.fill(textwrap.shorten(f"{label}, n = {len(arm.runs)}", MOST), LABEL_WIDTH)
