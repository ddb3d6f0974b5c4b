"""Transfer as a figure: the ranks of arms from the shortest budget to the longest, and their effects at each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from minuteloop.records.plots.figure import Canvas
from minuteloop.report.plots.style import COLOURS, GREY, LABEL, LEGEND_ABOVE, SMALL, WIDTH, caption, plain_axes, shorten
from minuteloop.report.statistics.verdicts import carries_over
from minuteloop.report.transfer import SharedArms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, HEAD, FOOT = 0.33, 0.4, 0.5  # inches: an arm, the space above and below the arms of a panel
RANKS, LABELS, EFFECTS, COLUMN = 1.7, 1.75, 2.9, 1.0  # inches, from left to right
VERDICTS = {"carries over": COLOURS[2], "does not": COLOURS[1], "unresolved": "#808080"}


def plot_transfer(machines: Sequence[SharedArms], title: str, resolve: float) -> Figure:
    """Draw a panel for each machine; arms from the best to the worst at the longest budget."""
    heights = [HEAD + ROW * len(shared.groups[0].arms) + FOOT for shared in machines]
    subtitle = "left: ranks by mean accuracy, a line for each arm; right: effects with simultaneous 95 % intervals"
    arms = [arm for shared in machines for group in shared.groups for arm in group.arms]
    canvas = Canvas(WIDTH, sum(heights), title, subtitle, caption(arms))
    bottom = sum(heights)
    for shared, height in zip(machines, heights, strict=True):
        bottom -= height
        _panel(canvas, bottom, shared, resolve)
    return canvas.figure


def _panel(canvas: Canvas, bottom: float, shared: SharedArms, resolve: float) -> None:
    longest = sorted(shared.groups[-1].arms, key=lambda arm: -arm.mean)
    order = [arm.label for arm in longest]
    height = ROW * len(order)
    ranks = canvas.axes(0.1, bottom + FOOT, RANKS, height)
    effects = canvas.axes(0.1 + RANKS + LABELS, bottom + FOOT, EFFECTS, height)
    _draw_ranks(ranks, shared, order, resolve)
    _draw_effects(effects, shared, order)
    for axes in (ranks, effects):
        axes.set_ylim(len(order) - 0.5, -0.5)
    if shared.words:
        canvas.text(0, bottom + FOOT + height + 0.2, shared.words, fontsize=LABEL, weight="bold", va="bottom")
    right = 0.1 + RANKS + LABELS + EFFECTS + COLUMN
    pair = f"{shared.budgets[0]} to {shared.budgets[-1]}"
    canvas.text(right, bottom + FOOT + height + 0.05, pair, fontsize=SMALL, color=GREY, ha="right", va="bottom")
    for row, label in enumerate(order):
        y = bottom + FOOT + height - ROW * (row + 0.5)
        words = "baseline" if label == shared.baseline else _verdict(shared, label, resolve)
        colour = VERDICTS.get(words, GREY)
        canvas.text(right, y, words, fontsize=SMALL, color=colour, ha="right", va="center")


def _verdict(shared: SharedArms, label: str, resolve: float) -> str:
    """Return whether an arm's effect carries over; '' where it has none, since the rung before it is left out."""
    if label not in shared.effects[0]:
        return ""
    return carries_over(shared.effects[0][label], shared.effects[-1][label], resolve)


def _draw_ranks(axes: Axes, shared: SharedArms, order: list[str], resolve: float) -> None:
    """Draw a line for each arm through its ranks, in the colour of its verdict."""
    ranks = [[arm.label for arm in sorted(group.arms, key=lambda arm: -arm.mean)] for group in shared.groups]
    for label in order:
        colour = VERDICTS.get(_verdict(shared, label, resolve), GREY)
        places = [rank.index(label) for rank in ranks]
        axes.plot(places, marker="o", markersize=4, linewidth=1.4, color=colour, label=label)
    axes.set_xlim(-0.15, len(ranks) - 0.85)
    axes.set_xticks(range(len(ranks)), shared.budgets, fontsize=SMALL)
    axes.set_yticks(range(len(order)), [shorten(label) for label in order], fontsize=LABEL)
    axes.yaxis.tick_right()
    axes.set_xlabel("budget", fontsize=SMALL)
    plain_axes(axes, [])
    axes.tick_params(axis="y", labelsize=LABEL, length=0)


def _draw_effects(axes: Axes, shared: SharedArms, order: list[str]) -> None:
    """Draw the effects of each arm, a marker for each budget, the shortest on top."""
    count = len(shared.groups)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for index, (budget, effects) in enumerate(zip(shared.budgets, shared.effects, strict=True)):
        offset = 0.5 * (index - (count - 1) / 2) / max(count - 1, 1)
        rows = [row + offset for row, label in enumerate(order) if label in effects]
        own = [effects[label] for label in order if label in effects]
        half = [0 if effect.low is None else effect.high - effect.difference for effect in own]
        axes.errorbar(
            [effect.difference for effect in own],
            rows,
            xerr=half if any(half) else None,
            fmt="osD^vP"[index % 6],
            color=COLOURS[(0, 4, 3, 5, 6)[index % 5]],
            markersize=3.5,
            capsize=1.5,
            linewidth=1,
            label=budget,
        )
    for row in range(0, len(order), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f3f3f3", zorder=0)
    axes.set_yticks([])
    axes.set_xlabel(f"against {shorten(shared.against)}, points", fontsize=SMALL)
    axes.legend(
        ncols=count,
        **LEGEND_ABOVE,
    )
    plain_axes(axes, ["bottom"])
