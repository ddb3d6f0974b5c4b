"""Pictures of a run: PNGs drawn at its end, from results that it has already computed.

Images are [N,3,H,W]. Figures use matplotlib without pyplot, so that no global state changes.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minuteloop.data.cifar100_superclasses import SUPERCLASSES
from minuteloop.records.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

log = logging.getLogger("minuteloop")

ROWS, COLUMNS = 4, 8  # of a grid of images
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"  # safe for colour-blind readers (Wong 2011, Nature Methods 8)


def draw(
    record: Record,
    *,
    split: str,
    images: np.ndarray,
    labels: np.ndarray,
    logits: list[Tensor],
    classes: Sequence[str],
    first_batch: tuple[Tensor, Tensor],
    mean: Tensor,
    std: Tensor,
) -> None:
    """Write pictures/*.png to the run's folder; log a warning for each that cannot be drawn or written.

    Args:
        record: of a run that has written metrics.csv.
        split: that was evaluated: "validation" or "test".
        images, labels: of the split, uint8 [N,3,H,W] and int [N].
        logits: [N,K] of each batch of the split; none where nothing was evaluated.
        classes: names of the K classes.
        first_batch: normalized images [N,3,H,W] and targets [N,K] of the first step.
        mean, std: of the normalization, [1,3,1,1] in 0..255.
    """

    def probabilities() -> np.ndarray:
        import torch

        return torch.cat(logits).softmax(1).cpu().numpy()

    def training_batch() -> tuple[np.ndarray, np.ndarray]:
        # Lightning may have moved only some of them back to the CPU
        images, targets, offset, scale = (tensor.float().cpu() for tensor in (*first_batch, mean, std))
        return ((images * scale + offset) / 255).clip(0, 1).numpy(), targets.numpy()

    def metrics() -> list[dict[str, str]]:
        with (record.folder / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    evaluated = {
        "confusion_matrix": lambda: plot_confusion_matrix(labels, probabilities().argmax(1), classes, split),
        "misclassified": lambda: plot_misclassified(images, labels, probabilities(), classes, split),
    }
    pictures = (evaluated if logits else {}) | {
        "training_batch": lambda: plot_training_batch(*training_batch(), classes),
        "curves": lambda: plot_curves(metrics()),
    }
    for name, plot in pictures.items():
        try:
            (record.folder / "pictures").mkdir(exist_ok=True)
            record.write(f"pictures/{name}.png", encode_png(plot()))
        except Exception as error:
            log.warning(f"pictures/{name}.png was not drawn: {type(error).__name__}: {error}")


def encode_png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def plot_confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str], split: str = "test"
) -> Figure:
    """Plot the percentage of each true class (row) that is predicted as each class (column); both int [N].

    Up to 20 classes have names and numbers; the classes of CIFAR-100 are sorted by its 20 superclasses.
    """
    count = len(classes)
    counts = np.zeros((count, count))
    np.add.at(counts, (labels, predictions), 1)
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(1)
    names, group_size = [name.replace("_", " ") for name in classes], 1  # classes that share a tick label
    if set(classes) == {name for group in SUPERCLASSES.values() for name in group}:
        order = [classes.index(name) for group in SUPERCLASSES.values() for name in group]
        percent, names, group_size = percent[np.ix_(order, order)], list(SUPERCLASSES), 5
    margin = 1.3 if group_size == 1 else 2.7  # inches, for the names
    figure = _new_figure(margin + 6.7, margin + 5.9)
    axes, bar_axes = figure.subplots(1, 2, width_ratios=[25, 1])
    figure.subplots_adjust(margin / (margin + 6.7), margin / (margin + 5.9), 0.9, 0.94, wspace=0.08)
    # the colour is linear in the square root, so that rare errors are visible
    matrix = axes.imshow(np.sqrt(percent), cmap="Blues", vmin=0, vmax=10, aspect="auto")
    bar = figure.colorbar(matrix, cax=bar_axes, label="% of the true class")
    bar.set_ticks(np.sqrt([0, 1, 5, 10, 25, 50, 100]), labels=["0", "1", "5", "10", "25", "50", "100"])
    if len(names) <= 20:
        ticks = np.arange(len(names)) * group_size + (group_size - 1) / 2
        axes.set_xticks(ticks, names, rotation=90, fontsize=9)
        axes.set_yticks(ticks, names, fontsize=9)
    if group_size > 1:
        edges = np.arange(group_size, count, group_size) - 0.5
        axes.hlines(edges, -0.5, count - 0.5, color="lightgrey", linewidth=0.5)
        axes.vlines(edges, -0.5, count - 0.5, color="lightgrey", linewidth=0.5)
    elif count <= 20:
        for (row, column), value in np.ndenumerate(percent):
            colour = "white" if value > 36 else "black"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(
        f"{split.capitalize()} split: {np.mean(labels == predictions):.2%} of {len(labels):,} images correct"
    )
    return figure


def plot_misclassified(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], split: str = "test"
) -> Figure:
    """Plot the errors with the highest confidence; images uint8, labels int [N], probabilities [N,K]."""
    names = [name.replace("_", " ") for name in classes]
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    errors = np.flatnonzero(predictions != labels)
    worst = errors[np.argsort(-confidence[errors], kind="stable")][: ROWS * COLUMNS]
    captions = [(names[labels[i]], f"predicted {names[predictions[i]]}, {confidence[i]:.0%}") for i in worst]
    return _plot_grid(
        images[worst] / 255, captions, f"The most confident of {len(errors):,} errors on the {split} split"
    )


def plot_training_batch(images: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> Figure:
    """Plot training images, float in [0, 1], with the two largest values of each target; targets [N,K]."""
    names, captions = [name.replace("_", " ") for name in classes], []
    for target in targets[: ROWS * COLUMNS]:
        first, second = np.argsort(-target, kind="stable")[:2]
        captions.append(tuple(f"{names[k]} {target[k]:.2f}" if target[k] > 0 else "" for k in (first, second)))
    return _plot_grid(images[: ROWS * COLUMNS], captions, "The first training batch, after augmentation")


def plot_curves(metrics: list[dict[str, str]]) -> Figure:
    """Plot loss, accuracy and learning rate over the steps, from the rows of metrics.csv."""
    figure = _new_figure(12, 3.6)
    figure.subplots_adjust(0.04, 0.14, 0.99, 0.91, wspace=0.25)
    panels = {
        "loss": [("train/loss", "train", GREY), ("val/loss", "validation", BLUE), ("test/loss", "test", ORANGE)],
        "accuracy (%)": [("val/acc", "validation", BLUE), ("test/acc", "test", ORANGE)],
        "learning rate": [("lr", "", GREY)],
    }
    for axes, (title, lines) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for column, name, colour in lines:
            points = sorted((int(row["step"]), float(row[column])) for row in metrics if row.get(column))
            if points:
                steps, values = np.array(points).T
                marker = "o" if len(points) < 30 else ""
                axes.plot(steps, 100 * values if "%" in title else values, marker=marker, color=colour, label=name)
        axes.set(title=title, xlabel="step")
        axes.set_xlim(left=0)
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if len(axes.lines) > 1:
            axes.legend(frameon=False)
    return figure


def _new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of width x height inches, at 100 dots per inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    return figure


def _plot_grid(images: np.ndarray, captions: list[tuple[str, str]], title: str) -> Figure:
    """Plot images, float in [0, 1], each above two lines of text; on a single canvas, since many axes are slow."""
    height, width = images.shape[2:]
    cell_height, cell_width = int(1.5 * height), int(1.25 * width)
    canvas = np.ones((ROWS * cell_height, COLUMNS * cell_width, 3))
    figure = _new_figure(13, 8.2)
    axes = figure.add_axes((0.01, 0, 0.98, 0.95))
    for index, (image, (first, second)) in enumerate(zip(images, captions, strict=True)):
        top, left = index // COLUMNS * cell_height, index % COLUMNS * cell_width
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
        for line, text, colour in ((0.5, first, "black"), (4.7, second, GREY)):
            below = top + height + line * height / 32
            axes.text(left + width / 2, below, text, ha="center", va="top", color=colour, fontsize=8)
    axes.imshow(canvas, interpolation="nearest")
    axes.set_axis_off()
    figure.suptitle(title)
    return figure
