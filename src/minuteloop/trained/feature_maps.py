"""Pictures of a trained net's inside: the filters of its stem and the feature maps of its stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from minuteloop.config.compose import typed
from minuteloop.data import cifar
from minuteloop.data.cifar import Images
from minuteloop.records.plots.figure import DPI, SUBTITLE, Canvas, encode_png, plain, run_caption
from minuteloop.records.plots.image_grid import FONT, GAP, IMAGE, INNER_GAP, LINE, enlarge, result_lines, write_lines
from minuteloop.records.record import read_record
from minuteloop.trained.load import load
from minuteloop.validation import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_FILTERS = 64  # in the picture
FILTER = 96  # pixels of the picture
MIN_WIDTH = 5.5  # inches, for the texts


def draw_feature_maps(folder: str | Path, indices: Sequence[int]) -> list[Path]:
    """Write filters.png and maps.png of a run's net to its pictures/ and return their paths.

    `indices` select test images.

    Raises:
        ConfigError: if `folder` is not the folder of an evaluated run, or an index is outside the test set.
    """
    folder, indices = Path(folder), list(indices)
    model, dataset = load(folder), _load_images(folder)
    last = len(dataset.test_labels) - 1
    for index in indices:
        if not 0 <= index <= last:
            raise ConfigError(f"image {index}: must be in [0, {last}], the test set")
    images = dataset.test_images[indices]
    with torch.no_grad():
        stages = model.net.features(model.normalize(images))
        probabilities = model(images).softmax(1).numpy()
    magnitudes = [(stride, maps.float().square().mean(1).sqrt().numpy()) for stride, maps in stages]
    names = [plain(name) for name in dataset.classes]
    labels = dataset.test_labels[indices]
    texts = [result_lines(names, *row) for row in zip(labels, probabilities, indices, strict=True)]
    date = datetime.fromtimestamp((folder / "result.json").stat().st_mtime)
    caption = run_caption(read_record(folder, str(folder)), folder, date)
    figures = {
        "filters": plot_filters(stem_filters(model.net), caption),
        "maps": plot_feature_maps(images, magnitudes, texts, caption),
    }
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    for name, figure in figures.items():
        (pictures / f"{name}.png").write_bytes(encode_png(figure))
    return [pictures / f"{name}.png" for name in figures]


def _load_images(folder: Path) -> Images:
    """Load the dataset of a run from where the run read it, or, if that no longer exists, from the default root."""
    data = typed(read_record(folder, str(folder))["config"]).data
    return cifar.load(data.name, data.root if Path(data.root).expanduser().exists() else "auto")


def stem_filters(net: nn.Module) -> np.ndarray:
    """Return the weights of the first convolution as it reads pixels: float [filters, 3, height, width].

    After a space-to-depth of s, a k x k kernel covers ks x ks pixels; its channel c s^2 + i s + j is pixel (i, j) of
    colour c.

    Raises:
        ConfigError: if the first convolution does not read the image's colours.
    """
    block = 1  # pixels of a side that space-to-depth moves into channels
    for module in net.modules():
        if isinstance(module, nn.PixelUnshuffle):
            block = module.downscale_factor
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach().float()
            n, channels, height, width = weight.shape
            if channels != 3 * block**2:
                break
            weight = weight.view(n, 3, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
            return weight.reshape(n, 3, height * block, width * block).numpy()
    raise ConfigError("filters: the stem must have a convolution that reads the image's colours")


def plot_filters(weights: np.ndarray, caption: Sequence[str] = ()) -> Figure:
    """Plot the first MAX_FILTERS of weights [N,3,H,W], each scaled to its own largest weight; grey is 0."""
    shown = weights[:MAX_FILTERS]
    columns, cell = min(8, len(shown)), FILTER + GAP // 2
    rows = -(-len(shown) // columns)
    width, height = columns * cell / DPI, rows * cell / DPI
    canvas = Canvas(
        max(width, MIN_WIDTH),
        height,
        f"Stem filters: {len(shown)} of {len(weights)}, {weights.shape[2]}x{weights.shape[3]} pixels each",
        "As colours: grey is 0, black and white are minus and plus the filter's largest weight.",
        caption,
    )
    pixels = np.full((rows * cell, columns * cell, 3), 255, np.uint8)
    for index, weight in enumerate(shown):
        top, left = index // columns * cell, index % columns * cell
        scale = np.abs(weight).max() or 1.0
        pixels[top : top + FILTER, left : left + FILTER] = _bytes(enlarge((weight / scale + 1) / 2, FILTER))
    canvas.image(pixels)
    return canvas.figure


def plot_feature_maps(
    images: np.ndarray,
    magnitudes: Sequence[tuple[int, np.ndarray]],
    texts: Sequence[Sequence[tuple[str, str]]],
    caption: Sequence[str] = (),
) -> Figure:
    """Plot one row per image, uint8 [N,3,H,W]: the image, and for each stage its map, alone and over the image.

    `magnitudes`: for each stage its stride in pixels and the root mean square over the channels, [N,h,w]. A stage has
    one scale for all images, from its smallest to its largest value. `texts`: for each image lines with their colours.
    """
    from matplotlib import colormaps

    cell, colours = IMAGE + INNER_GAP, colormaps["viridis"]
    row_height, columns = IMAGE + 3 * LINE + GAP, 1 + 2 * len(magnitudes)
    top = LINE + 4  # of the first row, for the headings
    pixels = np.full((top + len(images) * row_height, columns * cell - INNER_GAP, 3), 255, np.uint8)
    for row, image in enumerate(images):
        rows = slice(top + row * row_height, top + row * row_height + IMAGE)
        pixels[rows, :IMAGE] = enlarge(image, IMAGE)
        for stage, (_, maps) in enumerate(magnitudes):
            left, scaled = cell * (1 + 2 * stage), (maps - maps.min()) / (np.ptp(maps) or 1.0)
            for column, picture in enumerate(_map_and_overlay(image, scaled[row], colours)):
                pixels[rows, left + column * cell : left + column * cell + IMAGE] = _bytes(picture)
    canvas = Canvas(
        max(pixels.shape[1] / DPI, MIN_WIDTH),
        pixels.shape[0] / DPI + 0.3,  # inches, for the scales
        "Feature maps: root mean square over the channels of each stage's output",
        "Left of each pair: the map, with the scale of its stage at the bottom; right: the same over the image. "
        "✓ true class, ✗ predicted class where it is another, each with its probability; # index in the test set.",
        caption,
    )
    canvas.image(pixels)
    for row, lines in enumerate(texts):
        write_lines(canvas, lines, IMAGE / 2, top + row * row_height + IMAGE)
    for stage, (stride, maps) in enumerate(magnitudes):
        left = cell * (1 + 2 * stage)
        heading = f"stage {stage + 1}, stride {stride}, {maps.shape[1]}x{maps.shape[2]}"
        canvas.text(
            (left + cell - INNER_GAP / 2) / DPI, canvas.content, heading, ha="center", va="top", fontsize=SUBTITLE
        )
        _draw_scale(canvas.axes(left / DPI, 0.2, IMAGE / DPI, 0.1), maps.min(), maps.max())
    return canvas.figure


def _map_and_overlay(image: np.ndarray, values: np.ndarray, colours: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Return a map [h,w] in [0, 1] in colours, and blended with its image uint8 [3,H,W]; both [IMAGE,IMAGE,3]."""
    alone = colours(enlarge(values[None], IMAGE)[..., 0])[..., :3]
    smooth = nn.functional.interpolate(torch.from_numpy(values)[None, None], (IMAGE, IMAGE), mode="bilinear")
    grey = enlarge(image.mean(0, keepdims=True), IMAGE) / 255
    return alone, 0.45 * grey + 0.55 * colours(smooth[0, 0].numpy())[..., :3]


def _draw_scale(axes: Axes, smallest: float, largest: float) -> None:
    """Draw a colour bar over the values of a stage."""
    axes.imshow(np.linspace(0, 1, 256)[None], cmap="viridis", aspect="auto", extent=(0, 1, 0, 1))
    axes.set(xticks=[0, 1], yticks=[])
    axes.set_xticklabels([f"{smallest:.3g}", f"{largest:.3g}"], fontsize=FONT)
    axes.tick_params(length=2, pad=1)


def _bytes(image: np.ndarray) -> np.ndarray:
    """Return an image in [0, 1] as uint8."""
    return np.round(255 * image).astype(np.uint8)
