"""What a run looks like: PNGs drawn at its end, from numbers that it has anyway.

Images are [N,3,H,W]. Figures are matplotlib's, without pyplot, so that nothing global changes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minuteloop.data.cifar100_superclasses import SUPERCLASSES
from minuteloop.records.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, COLUMNS = 4, 8  # of a grid of images
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"  # told apart by every kind of sight (Wong 2011, Nature Methods 8)


def draw(record: Record, module, dataset, say: Callable[[str], None]) -> None:
    """Writes pictures/*.png into the run's folder: of a tested `module` and the `dataset` that it was tested on.

    A picture that cannot be drawn or written is a warning.
    """

    def probabilities() -> np.ndarray:
        import torch

        return torch.cat(module.test_logits).softmax(1).cpu().numpy()

    def training_batch() -> tuple[np.ndarray, np.ndarray]:
        kept = (*module.first_batch, module.mean, module.std)  # Lightning has put the last two back on the CPU
        images, targets, mean, std = (tensor.float().cpu() for tensor in kept)
        return ((images * std + mean) / 255).clip(0, 1).numpy(), targets.numpy()

    def rows() -> list[dict[str, str]]:
        with (record.folder / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    images, labels, classes = dataset.test_images, dataset.test_labels, dataset.classes
    pictures = {
        "confusion_matrix": lambda: confusion_matrix(labels, probabilities().argmax(1), classes),
        "mistakes": lambda: mistakes(images, labels, probabilities(), classes),
        "training_batch": lambda: augmented(*training_batch(), classes),
        "curves": lambda: curves(rows()),
    }
    for name, picture in pictures.items():
        try:
            (record.folder / "pictures").mkdir(exist_ok=True)
            record.write(f"pictures/{name}.png", png(picture()))
        except Exception as error:
            say(f"warning: pictures/{name}.png was not drawn: {type(error).__name__}: {error}")


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> Figure:
    """The share of each true class (a row) that was taken for each class (a column); labels, predictions int [N].

    Up to 20 classes are named and their cells numbered; CIFAR-100 stands in the order of its 20 superclasses.
    """
    count = len(classes)
    counts = np.zeros((count, count))
    np.add.at(counts, (labels, predictions), 1)
    shares = 100 * counts / counts.sum(1, keepdims=True).clip(1)
    names, size = [name.replace("_", " ") for name in classes], 1  # of a group of classes that shares a name
    if set(classes) == {name for group in SUPERCLASSES.values() for name in group}:
        order = [classes.index(name) for group in SUPERCLASSES.values() for name in group]
        shares, names, size = shares[np.ix_(order, order)], list(SUPERCLASSES), 5
    margin = 1.3 if size == 1 else 2.7  # inches, for the names
    figure = _figure(margin + 6.7, margin + 5.9)
    axes, bar_axes = figure.subplots(1, 2, width_ratios=[25, 1])
    figure.subplots_adjust(margin / (margin + 6.7), margin / (margin + 5.9), 0.9, 0.94, wspace=0.08)
    # of the root, so that rare mistakes are seen
    shown = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=10, aspect="auto")
    bar = figure.colorbar(shown, cax=bar_axes, label="% of the true class")
    bar.set_ticks(np.sqrt([0, 1, 5, 10, 25, 50, 100]), labels=["0", "1", "5", "10", "25", "50", "100"])
    if len(names) <= 20:
        ticks = np.arange(len(names)) * size + (size - 1) / 2
        axes.set_xticks(ticks, names, rotation=90, fontsize=9)
        axes.set_yticks(ticks, names, fontsize=9)
    if size > 1:
        edges = np.arange(size, count, size) - 0.5
        axes.hlines(edges, -0.5, count - 0.5, color="lightgrey", linewidth=0.5)
        axes.vlines(edges, -0.5, count - 0.5, color="lightgrey", linewidth=0.5)
    elif count <= 20:
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 36 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"Test set: {np.mean(labels == predictions):.2%} of {len(labels):,} images right")
    return figure


def mistakes(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> Figure:
    """The wrong predictions of which the net was most certain; images uint8, labels int [N], probabilities [N,K]."""
    names = [name.replace("_", " ") for name in classes]
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][: ROWS * COLUMNS]
    told = [(names[labels[i]], f"taken for {names[predictions[i]]}, {confidence[i]:.0%}") for i in worst]
    return _grid(images[worst] / 255, told, f"The most certain of {len(wrong):,} mistakes on the test set")


def augmented(images: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> Figure:
    """Training images, float in [0, 1], and the two largest shares of each target; targets [N,K]."""
    names, told = [name.replace("_", " ") for name in classes], []
    for target in targets[: ROWS * COLUMNS]:
        first, second = np.argsort(-target, kind="stable")[:2]
        told.append(tuple(f"{names[k]} {target[k]:.2f}" if target[k] > 0 else "" for k in (first, second)))
    return _grid(images[: ROWS * COLUMNS], told, "A training batch as the net saw it")


def curves(rows: list[dict[str, str]]) -> Figure:
    """Loss, accuracy and learning rate over the steps, from the rows of metrics.csv."""
    figure = _figure(12, 3.6)
    figure.subplots_adjust(0.04, 0.14, 0.99, 0.91, wspace=0.25)
    panels = {
        "loss": [("train/loss", "train", GREY), ("val/loss", "validation", BLUE), ("test/loss", "test", ORANGE)],
        "accuracy (%)": [("val/acc", "validation", BLUE), ("test/acc", "test", ORANGE)],
        "learning rate": [("lr", "", GREY)],
    }
    for axes, (title, lines) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for column, name, colour in lines:
            points = sorted((int(row["step"]), float(row[column])) for row in rows if row.get(column))
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


def _figure(width: float, height: float) -> Figure:
    """Inches, at 100 dots each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    return figure


def _grid(images: np.ndarray, told: list[tuple[str, str]], title: str) -> Figure:
    """Images, float in [0, 1], each above two lines of text; all in one drawing, since many axes are slow."""
    height, width = images.shape[2:]
    cell_height, cell_width = int(1.5 * height), int(1.25 * width)
    canvas = np.ones((ROWS * cell_height, COLUMNS * cell_width, 3))
    figure = _figure(13, 8.2)
    axes = figure.add_axes((0.01, 0, 0.98, 0.95))
    for index, (image, (first, second)) in enumerate(zip(images, told, strict=True)):
        top, left = index // COLUMNS * cell_height, index % COLUMNS * cell_width
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
        for line, text, colour in ((0.5, first, "black"), (4.7, second, GREY)):
            below = top + height + line * height / 32
            axes.text(left + width / 2, below, text, ha="center", va="top", color=colour, fontsize=8)
    axes.imshow(canvas, interpolation="nearest")
    axes.set_axis_off()
    figure.suptitle(title)
    return figure
