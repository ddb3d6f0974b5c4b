"""Grids of images: the most confident errors, and the first training batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minuteloop.records.plots.figure import BLUE, DPI, GREY, ORANGE, Canvas, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGE, GAP, INNER_GAP = 160, 24, 8  # pixels of the picture: an image, between tiles, within a tile
LINE, FONT = 17, 7  # pixels of a line of text, and its size in points
ERRORS, PER_PAIR = 32, 3  # errors shown, at most so many of one (true, predicted) pair
COLUMNS, PAIRS = 8, 16  # errors of a row; images of the training batch


@dataclass(frozen=True)
class Tile:
    """Images, uint8 [3,H,W], side by side; under each its lines of text with their colours."""

    images: list[np.ndarray]
    texts: list[list[tuple[str, str]]]


@dataclass(frozen=True)
class FirstBatch:
    """The first images that a run trained on, and what became of them.

    `originals` are uint8 [N,3,H,W] with `labels` int64 [N]; `images`, float [N,3,H',W'] in [0, 1], and `targets` [N,K]
    are what the net was given for them. `factors` has for each augmentation by its name the part of its full strength,
    0 where it was off, None where strength does not scale it.
    """

    originals: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    targets: np.ndarray
    factors: dict[str, float | None]


def plot_misclassified(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    split: str,
    indices: np.ndarray,
    caption: Sequence[str] = (),
) -> Figure:
    """Plot the errors with the highest confidence, at most PER_PAIR of a (true, predicted) pair.

    Images uint8 [N,3,H,W], labels int [N], probabilities [N,K], `indices` [N] of the images in the dataset.
    """
    names = [plain(name) for name in classes]
    predictions = probabilities.argmax(1)
    total = int(np.sum(predictions != labels))
    tiles = [
        Tile([images[i]], [result_lines(names, labels[i], probabilities[i], indices[i])])
        for i in confident_errors(labels, probabilities)
    ]
    origin = "training images" if split == "validation" else f"{split} set"
    return _plot_tiles(
        tiles,
        COLUMNS,
        f"{split.capitalize()} set: the most confident of {total:,} errors on {len(labels):,} images",
        f"✗ predicted class and ✓ true class, each with its probability; # index in the {origin}. "
        f"At most {PER_PAIR} images of a pair of classes.",
        caption,
    )


def confident_errors(labels: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Return the positions of ERRORS errors, the most confident first, at most PER_PAIR of a (true, predicted) pair."""
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    errors = np.flatnonzero(predictions != labels)
    pairs, chosen = Counter(), []
    for i in errors[np.argsort(-confidence[errors], kind="stable")].tolist():
        pair = labels[i], predictions[i]
        pairs[pair] += 1
        if pairs[pair] <= PER_PAIR:
            chosen.append(i)
        if len(chosen) == ERRORS:
            break
    return chosen


def result_lines(names: Sequence[str], label: int, probabilities: np.ndarray, index: int) -> list[tuple[str, str]]:
    """Return what to write below an image: predicted and true class with their probabilities, and the index."""
    predicted = int(probabilities.argmax())
    right, wrong = (f"{names[k]} {_percent(probabilities[k])}" for k in (label, predicted))
    return [*([(f"✗ {wrong}", ORANGE)] if predicted != label else []), (f"✓ {right}", BLUE), (f"#{index}", GREY)]


def plot_training_batch(batch: FirstBatch, classes: Sequence[str], *, caption: Sequence[str] = ()) -> Figure:
    """Plot the first PAIRS images as stored and as the net was given them, with the largest values of each target."""
    names = [plain(name) for name in classes]
    tiles = []
    rows = zip(batch.originals, batch.labels, batch.images, batch.targets, strict=True)
    for original, label, image, target in list(rows)[:PAIRS]:
        pair = [original, np.round(255 * image).astype(np.uint8)]
        shares = [(f"{names[k]} {target[k]:.2f}", "black") for k in largest_shares(target)]
        tiles.append(Tile(pair, [[(names[label], GREY)], shares]))
    return _plot_tiles(
        tiles,
        COLUMNS // 2,
        f"First training batch: {_augmentations(batch.factors)}",
        "Left: as stored; right: as the net was given it, with the two largest values of its target, less what label "
        "smoothing gives to every class. A mixed image is beside the larger of its two parts.",
        caption,
    )


def largest_shares(target: np.ndarray) -> list[int]:
    """Return the classes of the at most two largest values of a target [K] above its smallest one.

    The smallest value is what label smoothing gives to every class.
    """
    return [k for k in np.argsort(-target, kind="stable")[:2] if target[k] > target.min() + 1e-6]


def _augmentations(factors: dict[str, float | None]) -> str:
    """Return which augmentations are on, scaled and off."""
    by_factor: dict[float, list[str]] = {}
    for name, factor in factors.items():
        by_factor.setdefault(1.0 if factor is None else factor, []).append(name)
    full, off = by_factor.pop(1.0, []), by_factor.pop(0.0, [])
    parts = [", ".join(full)] if full or not by_factor else []
    parts += [f"at {_percent(factor)}: {', '.join(names)}" for factor, names in by_factor.items()]
    parts += [f"off (recipe.strength): {', '.join(off)}"] if off else []
    return "; ".join(part or "no augmentation" for part in parts)


def _percent(probability: float) -> str:
    return "<1 %" if probability < 0.005 else f"{probability:.0%}".replace("%", " %")


def _plot_tiles(tiles: list[Tile], columns: int, title: str, subtitle: str, caption: Sequence[str]) -> Figure:
    """Plot tiles of equal shape as one image, since many axes are slow."""
    per_tile = len(tiles[0].images) if tiles else 1
    lines = max((len(text) for tile in tiles for text in tile.texts), default=0)
    width = per_tile * (IMAGE + INNER_GAP) - INNER_GAP + GAP
    height = IMAGE + lines * LINE + GAP
    rows = -(-len(tiles) // columns)
    pixels = np.full((rows * height, columns * width - GAP, 3), 255, np.uint8)
    canvas = Canvas(pixels.shape[1] / DPI, pixels.shape[0] / DPI, title, subtitle, caption)
    for index, tile in enumerate(tiles):
        top, left = index // columns * height, index % columns * width
        for image, texts in zip(tile.images, tile.texts, strict=True):
            pixels[top : top + IMAGE, left : left + IMAGE] = enlarge(image, IMAGE)
            write_lines(canvas, texts, left + IMAGE / 2, top + IMAGE)
            left += IMAGE + INNER_GAP
    if tiles:
        canvas.image(pixels)
    return canvas.figure


def write_lines(canvas: Canvas, texts: Sequence[tuple[str, str]], x: float, top: float) -> None:
    """Write lines of text with their colours, centred at `x` below `top`, in pixels from the upper left corner."""
    for line, (text, colour) in enumerate(texts):
        y = canvas.content - (top + 4 + line * LINE) / DPI
        canvas.text(x / DPI, y, text, ha="center", va="top", color=colour, fontsize=FONT)


def enlarge(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image [3,H,W] as [side,side,3], with its pixels visible."""
    rows, columns = (np.arange(side) * size // side for size in image.shape[1:])
    return image[:, rows][:, :, columns].transpose(1, 2, 0)
