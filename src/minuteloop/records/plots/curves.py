"""Curves of a run: loss, accuracy and learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minuteloop.records.plots.figure import BLUE, GREY, ORANGE, Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {  # column of metrics.csv -> its name, colour and marker
    "train/loss": ("training", GREY, "."),
    "val/loss": ("validation", BLUE, "o"),
    "test/loss": ("test", ORANGE, "D"),
    "val/acc": ("validation", BLUE, "o"),
    "test/acc": ("test", ORANGE, "D"),
}
MAX_MARKED = 30  # points of a line that has a marker at each
WIDTH, HEIGHT = 3.5, 2.5  # inches of a panel


def learning_rates(schedule: Callable[[float, float], float], plan: dict, points: int = 500) -> np.ndarray:
    """Return (steps done, learning rate of the last of them) over a planned run: [2, at most `points` + 1]."""
    steps = np.unique(np.linspace(1, plan["steps"], points, dtype=int))
    rates = [plan["lr"] * schedule(step / plan["steps"], plan["epochs"]) for step in steps.tolist()]
    return np.array([steps, rates])


def plot_curves(
    metrics: list[dict[str, str]],
    *,
    schedule: Callable[[float, float], float],
    plan: dict,
    caption: Sequence[str] = (),
) -> Figure:
    """Plot loss and accuracy from the rows of metrics.csv, and the planned learning rate, over steps and epochs.

    `schedule` maps progress in [0, 1] and the planned epochs to a factor on the peak learning rate of `plan`.
    """
    canvas = Canvas(3 * (WIDTH + 0.6), HEIGHT + 1.0, "Training curves", caption=caption)
    loss, accuracy, rate = (canvas.axes(0.5 + index * (WIDTH + 0.6), 0.45, WIDTH, HEIGHT) for index in range(3))
    for axes, columns, title in (
        (loss, ("train/loss", "val/loss", "test/loss"), "loss"),
        (accuracy, ("val/acc", "test/acc"), "accuracy, %"),
    ):
        for column in columns:
            _plot_column(axes, metrics, column)
        _finish_panel(axes, title, plan)
    if [line.get_label().split()[0] for line in accuracy.lines] == ["test"]:
        accuracy.set_ylim(0, 100)
        text = "no validation split (data.holdout=0):\nthe test set is read once, at the end"
        accuracy.text(0.5, 0.5, text, transform=accuracy.transAxes, ha="center", va="center", color=GREY, fontsize=8)
    steps, rates = learning_rates(schedule, plan)
    rate.plot(steps, rates, color=GREY, label=f"peak {rates.max():.3g}, last {rates[-1]:.3g}")
    rate.set_ylim(bottom=0)
    _finish_panel(rate, "learning rate", plan)
    return canvas.figure


def _plot_column(axes: Axes, metrics: list[dict[str, str]], column: str) -> None:
    points = sorted((int(row["step"]), float(row[column])) for row in metrics if row.get(column))
    if not points:
        return
    steps, values = np.array(points).T
    name, colour, marker = LINES[column]
    is_accuracy = column.endswith("acc")
    label = f"{name} {100 * values[-1]:.2f} %" if is_accuracy else f"{name} {values[-1]:.3f}"
    marked = marker if len(points) <= MAX_MARKED else ""
    axes.plot(steps, 100 * values if is_accuracy else values, color=colour, marker=marked, markersize=5, label=label)


def _finish_panel(axes: Axes, title: str, plan: dict) -> None:
    """Set limits, a second axis in epochs, and a legend that has the last values."""
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.set_xlim(0, 1.02 * plan["steps"])
    epochs = plan["epochs"] / plan["steps"]  # of a step
    second = axes.secondary_xaxis("top", functions=(lambda step: step * epochs, lambda epoch: epoch / epochs))
    second.set_xlabel("epochs", fontsize=8)
    for each in (axes, second):
        each.tick_params(labelsize=8)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.spines["right"].set_visible(False)
    if axes.lines:
        axes.legend(fontsize=8, loc="best", framealpha=0.7)
