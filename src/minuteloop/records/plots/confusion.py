"""The confusion matrix: its counts, and a picture in which the errors stand out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minuteloop.data.cifar100_superclasses import SUPERCLASSES
from minuteloop.records.plots.figure import GREY, Canvas, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMES = 20  # classes, or groups of classes, that are named
WORST = 3  # pairs of classes in the title
DIAGONAL = "#d9d9d9"
SIDE, EDGE = 6.4, 0.5  # inches: the matrix, and the recall and precision beside it


def confusion_counts(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Return how many images of each true class (row) are predicted as each class (column): int64 [K,K]."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def worst_pairs(counts: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Return the WORST most frequent errors: 'cat as dog 182'."""
    errors = counts - np.diag(np.diag(counts))
    order = np.argsort(-errors, axis=None, kind="stable")[:WORST]
    pairs = [np.unravel_index(index, errors.shape) for index in order]
    return [f"{plain(classes[i])} as {plain(classes[j])} {errors[i, j]:,}" for i, j in pairs if errors[i, j]]


def plot_confusion_matrix(
    counts: np.ndarray, classes: Sequence[str], *, split: str, caption: Sequence[str] = ()
) -> Figure:
    """Plot confusion_counts [K,K] with the recall of each class at the right and its precision at the bottom.

    The diagonal is grey; the colour of the others is linear in the percentage of the true class. Up to 20 classes have
    names and counts; the classes of CIFAR-100 are sorted by its 20 superclasses, whose recall and precision are means.
    """
    total, correct = counts.sum(), np.trace(counts)
    worst = worst_pairs(counts, classes)
    subtitle = f"Most frequent errors (true as predicted, images): {'; '.join(worst)}" if worst else "No errors"
    names, group_size = [plain(name) for name in classes], 1  # classes that share a name
    if set(classes) == {name for group in SUPERCLASSES.values() for name in group}:
        order = [classes.index(name) for group in SUPERCLASSES.values() for name in group]
        counts, names, group_size = counts[np.ix_(order, order)], list(SUPERCLASSES), 5
        subtitle += ". Names are of superclasses; their recall and precision are means of five classes"
    count, margin = len(classes), 1.0 if group_size == 1 else 2.3  # inches, for the names
    canvas = Canvas(
        margin + SIDE + EDGE + 0.85,
        margin + SIDE + EDGE + 0.35,
        f"{split.capitalize()} set: {correct / max(total, 1):.2%} of {total:,} images correct".replace("%", " %"),
        subtitle,
        caption,
    )
    axes = canvas.axes(margin, margin + EDGE, SIDE, SIDE)
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(1)
    errors = np.ma.masked_array(percent, np.eye(count, dtype=bool))  # what is masked shows the background
    scale = max(errors.max(), 1)
    axes.set_facecolor(DIAGONAL)
    matrix = axes.imshow(errors, cmap="Oranges", vmin=0, vmax=scale, aspect="auto")
    bar_axes = canvas.axes(margin + SIDE + EDGE + 0.2, margin + EDGE, 0.16, SIDE)
    canvas.figure.colorbar(matrix, cax=bar_axes).set_label("errors, % of the true class", fontsize=8)
    bar_axes.tick_params(labelsize=8)
    axes.set_xlabel("predicted class", fontsize=9)
    axes.set_ylabel("true class", fontsize=9)
    axes.set(xticks=[], yticks=[])
    if len(names) <= MAX_NAMES:
        _name_classes(axes, names, *recall_and_precision(counts, group_size))
    if group_size > 1:
        edges = np.arange(group_size, count, group_size) - 0.5
        axes.hlines(edges, -0.5, count - 0.5, color="lightgrey", linewidth=0.5)
        axes.vlines(edges, -0.5, count - 0.5, color="lightgrey", linewidth=0.5)
    elif count <= MAX_NAMES:
        for row, column in np.argwhere(counts):
            colour = "white" if row != column and percent[row, column] > 0.6 * scale else "black"
            text = f"{counts[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    return canvas.figure


def recall_and_precision(counts: np.ndarray, group_size: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return both in percent, [K / group_size] each: means over groups of consecutive classes.

    The precision of a class that is never predicted is NaN, and means leave it out.
    """
    correct, true, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    both = np.full((2, len(counts)), np.nan)
    np.divide(100 * correct, true, out=both[0], where=true > 0)
    np.divide(100 * correct, predicted, out=both[1], where=predicted > 0)
    groups = np.ma.masked_invalid(both).reshape(2, -1, group_size).mean(2).filled(np.nan)
    return groups[0], groups[1]


def _name_classes(axes: Axes, names: Sequence[str], recall: np.ndarray, precision: np.ndarray) -> None:
    """Write the names of the classes, or of their groups, and the two percentages."""
    group_size = (axes.get_xlim()[1] + 0.5) / len(names)
    ticks = (np.arange(len(names)) + 0.5) * group_size - 0.5
    axes.set_xticks(ticks, names, rotation=90, fontsize=9)
    axes.set_yticks(ticks, names, fontsize=9)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", pad=72 * EDGE)
    style = {"ha": "center", "va": "center", "fontsize": 8, "color": GREY}
    beside, below = 1 + 0.5 * EDGE / SIDE, -0.5 * EDGE / SIDE  # in heights of the axes
    for tick, *values in zip(ticks, recall, precision, strict=True):
        right, bottom = ("none" if np.isnan(value) else f"{value:.1f}" for value in values)
        axes.text(beside, tick, right, transform=axes.get_yaxis_transform(), **style)
        axes.text(tick, below, bottom, transform=axes.get_xaxis_transform(), **style)
    axes.text(beside, 1.01, "recall\n%", transform=axes.transAxes, **style | {"va": "bottom"})
    axes.text(-0.01, below, "precision, %", transform=axes.transAxes, **style | {"ha": "right"})
