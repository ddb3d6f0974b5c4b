"""The ladder as a figure: bars of accuracy, effects beside the paper's, MACs and milliseconds a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from minuteloop.records.plots.figure import Canvas
from minuteloop.report.ladder import Rung, paper
from minuteloop.report.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    LABEL,
    LEGEND_ABOVE,
    ORANGE,
    SMALL,
    WIDTH,
    caption,
    plain_axes,
    shorten,
)
from minuteloop.report.statistics.effects import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, HEAD, FOOT = 0.23, 0.3, 0.5  # inches: a rung, the space above and below the rungs of a panel
WORDS = 0.25  # inches: more above a panel that has a name
LEFT, BARS, GAP, EFFECTS, COLUMN = 1.75, 2.45, 0.3, 1.95, 0.6  # inches, from left to right
ALPHA = 0.75  # of bars


def plot_ladder(
    panels: Sequence[tuple[str, list[Rung]]], title: str, against: str, metric: str, paper_words: str
) -> Figure:
    """Draw a panel for each (words, rungs), one below the other, the first rung on top.

    `against` is what effects are differences from, `paper_words` what the paper's are; "" without any.
    """
    heights = [HEAD + (WORDS if words else 0) + ROW * len(rungs) + FOOT for words, rungs in panels]
    arms = [rung.arm for _, rungs in panels for rung in rungs]
    subtitle = "bars: mean accuracy, with its 95 % interval; right: effects with simultaneous 95 % intervals"
    subtitle += f"; diamonds: {paper_words}" if paper_words else ""
    canvas = Canvas(WIDTH, sum(heights), title, subtitle, caption(arms))
    bottom = sum(heights)
    for (words, rungs), height in zip(panels, heights, strict=True):
        bottom -= height
        _panel(canvas, bottom, words, rungs, against, metric)
    return canvas.figure


def _panel(canvas: Canvas, bottom: float, words: str, rungs: list[Rung], against: str, metric: str) -> None:
    height, above = ROW * len(rungs), bottom + FOOT + ROW * len(rungs) + 0.08
    bars = canvas.axes(LEFT, bottom + FOOT, BARS, height)
    effects = canvas.axes(LEFT + BARS + GAP, bottom + FOOT, EFFECTS, height)
    if words:
        canvas.text(0, above + 0.17, words, fontsize=LABEL, weight="bold", va="bottom")
    _draw_bars(bars, rungs, metric)
    _name_parts(canvas, above, rungs)
    _draw_effects(effects, rungs, against)
    for axes in (bars, effects):
        axes.set_ylim(len(rungs) - 0.5, -0.5)
    start = LEFT + BARS + GAP + EFFECTS
    for column, (name, values) in enumerate(
        {"MACs, M": [rung.macs for rung in rungs], "ms/step": [rung.milliseconds for rung in rungs]}.items(), start=1
    ):
        right = start + COLUMN * column
        canvas.text(right, above, name, fontsize=SMALL, color=GREY, ha="right", va="bottom")
        for index, value in enumerate(values):
            y = bottom + FOOT + height - ROW * (index + 0.5)
            canvas.text(right, y, f"{value:,.1f}", fontsize=SMALL, ha="right", va="center")


def _draw_bars(axes: Axes, rungs: list[Rung], metric: str) -> None:
    found = [interval(rung.arm.percents) for rung in rungs]
    lows = [each.mean if each.low is None else each.low for each in found]
    highs = [each.mean if each.high is None else each.high for each in found]
    span = max(max(highs) - min(lows), 0.5)
    floor = max(math.floor(min(lows) - 0.3 * span), 0)
    for row, (each, colour) in enumerate(zip(found, _colours(rungs), strict=True)):
        axes.barh(row, each.mean - floor, left=floor, height=0.72, color=colour, alpha=ALPHA)
        if each.low is not None:
            half = each.mean - each.low
            axes.errorbar(each.mean, row, xerr=half, color="black", capsize=2, linewidth=1)
        axes.annotate(
            f"{each.mean:.2f}", (highs[row], row), (3, 0), textcoords="offset points", fontsize=SMALL, va="center"
        )
    axes.set_yticks(range(len(rungs)), [shorten(rung.arm.label) for rung in rungs], fontsize=LABEL)
    axes.set_xlim(floor, max(highs) + 0.22 * span)
    split = {"val/acc": "validation", "test/acc": "test"}.get(metric, metric)
    start = f" (axis starts at {floor})" if floor else ""
    axes.set_xlabel(f"{split} accuracy, %{start}", fontsize=SMALL)
    plain_axes(axes)
    axes.tick_params(axis="y", labelsize=LABEL, length=0)


def _parts() -> list[str]:
    """Return the parts of the paper's roadmap."""
    return list(dict.fromkeys(step["part"] for step in paper()["steps"].values()))


def _part(rung: Rung) -> str | None:
    """Return the part of the paper's roadmap that a rung's steps belong to."""
    steps = paper()["steps"]
    parts = {steps[name]["part"] for name in rung.names if rung.paper is not None}
    return parts.pop() if len(parts) == 1 else None


def _colours(rungs: list[Rung]) -> list[str]:
    """Return the colour of each rung: that of its part."""
    return [COLOURS[_parts().index(part)] if (part := _part(rung)) else GREY for rung in rungs]


def _name_parts(canvas: Canvas, y: float, rungs: list[Rung]) -> None:
    """Name the parts above the bars, in their colours."""
    from matplotlib.patches import Patch

    own = {_part(rung) for rung in rungs}
    found = {part: colour for part, colour in zip(_parts(), COLOURS, strict=False) if part in own}
    if found:
        handles = [Patch(color=colour, alpha=ALPHA) for colour in found.values()]
        canvas.figure.legend(
            handles,
            found,
            loc="lower left",
            bbox_to_anchor=canvas.place(0, y - 0.02),
            ncols=len(found),
            fontsize=SMALL,
            frameon=False,
            borderaxespad=0,
            borderpad=0,
            handlelength=0.8,
            handletextpad=0.4,
            columnspacing=1,
        )


def _draw_effects(axes: Axes, rungs: list[Rung], against: str) -> None:
    axes.axvline(0, color=GREY, linewidth=0.8)
    for row, rung in enumerate(rungs):
        if rung.effect is not None:
            ours = row - 0.14 if rung.paper is not None else row
            half = 0 if rung.effect.low is None else rung.effect.high - rung.effect.difference
            axes.errorbar(
                rung.effect.difference,
                ours,
                xerr=half or None,
                fmt="o",
                color=BLUE,
                markersize=4,
                capsize=2,
                label="ours",
            )
        if rung.paper is not None:
            axes.plot(rung.paper, row + 0.18, "D", color=ORANGE, markersize=4, label="paper, ImageNet")
    axes.set_yticks([])
    axes.set_xlabel(f"against {against}, points", fontsize=SMALL)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(sorted(zip(labels, handles, strict=True), key=lambda item: item[0]))  # ours first
    if len(unique) > 1:
        axes.legend(
            unique.values(),
            unique.keys(),
            ncols=2,
            **LEGEND_ABOVE,
        )
    plain_axes(axes, ["bottom"])
