"""Pictures of a trained net's inside: the filters of its stem and the feature maps of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from minuteloop.config.compose import typed
from minuteloop.data import cifar
from minuteloop.data.cifar import Images
from minuteloop.records.plots import encode_png
from minuteloop.records.record import read_record
from minuteloop.trained.load import load
from minuteloop.validation import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_FILTERS = 64  # in the picture


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
    magnitudes = [(stride, maps.float().square().mean(1).sqrt().numpy()) for stride, maps in stages]
    names = [dataset.classes[label] for label in dataset.test_labels[indices]]
    figures = {
        "filters": plot_filters(stem_filters(model.net)),
        "maps": plot_feature_maps(images, magnitudes, names),
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


def plot_filters(weights: np.ndarray) -> Figure:
    """Plot the first MAX_FILTERS of weights [N,3,H,W], each scaled to its own range; grey is 0."""
    from matplotlib.figure import Figure

    weights = weights[:MAX_FILTERS]
    columns = min(8, len(weights))
    rows = -(-len(weights) // columns)
    figure = Figure(figsize=(columns, rows + 0.4), layout="constrained")
    figure.suptitle(f"Stem filters, {weights.shape[2]}x{weights.shape[3]} pixels each", fontsize=9)
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in all_axes:
        axes.axis("off")
    for axes, weight in zip(all_axes, weights, strict=False):  # the last row may be incomplete
        scale = np.abs(weight).max() or 1.0
        axes.imshow((weight.transpose(1, 2, 0) / scale + 1) / 2)
    return figure


def plot_feature_maps(images: np.ndarray, magnitudes: Sequence[tuple[int, np.ndarray]], names: Sequence[str]) -> Figure:
    """Plot one row per image: the image, uint8 [N,3,H,W], with its class name, and the feature maps of each stage.

    `magnitudes`: for each stage its stride in pixels and the root mean square over the channels, [N,h,w].
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.3 * (len(magnitudes) + 1), 1.3 * len(images) + 0.4), layout="constrained")
    grid = figure.subplots(len(images), len(magnitudes) + 1, squeeze=False)
    for row, (image, name) in enumerate(zip(images, names, strict=True)):
        grid[row, 0].imshow(image.transpose(1, 2, 0))
        grid[row, 0].set_title(name.replace("_", " "), fontsize=8)
        for stage, (stride, maps) in enumerate(magnitudes, 1):
            grid[row, stage].imshow(maps[row], cmap="viridis")
            if row == 0:
                grid[row, stage].set_title(f"stage {stage}, /{stride}", fontsize=8)
    for axes in grid.flat:
        axes.axis("off")
    return figure
