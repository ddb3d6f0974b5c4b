"""Pictures of a trained net from inside: its stem's filters, and the maps of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minuteloop.records.plots import png
from minuteloop.records.record import read
from minuteloop.trained import load as trained
from minuteloop.validation import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 64  # filters shown


def look(folder: str | Path, places: Sequence[int]) -> list[Path]:
    """Draws filters.png and maps.png of a run's net into its pictures/; `places` are test images.

    Raises ConfigError for a folder that is no finished run and for a place that the test set does not have.
    """
    import torch

    from minuteloop.config.compose import typed
    from minuteloop.data.cifar import load

    model = trained.load(folder)
    data = typed(read(Path(folder), str(folder))["config"]).data
    dataset = load(data.name, data.root)
    count = len(dataset.test_labels)
    for place in places:
        if not 0 <= place < count:
            raise ConfigError(f"image {place}: the test set of {data.name} has the images 0 to {count - 1}")
    images = torch.from_numpy(dataset.test_images[list(places)])
    with torch.no_grad():
        maps = model.net.features(model.normalize(images))
    names = [dataset.classes[label] for label in dataset.test_labels[list(places)]]
    energies = [(stride, found.float().square().mean(1).sqrt().numpy()) for stride, found in maps]
    figures = {"filters": filters(stem_filters(model.net)), "maps": stage_maps(images.numpy(), energies, names)}
    pictures = Path(folder) / "pictures"
    pictures.mkdir(exist_ok=True)
    for name, figure in figures.items():
        (pictures / f"{name}.png").write_bytes(png(figure))
    return [pictures / f"{name}.png" for name in figures]


def stem_filters(net) -> np.ndarray:
    """The stem's first convolution as it reads pixels, float [filters, 3, height, width].

    Behind a space-to-depth of s a k x k kernel reads ks x ks pixels; its channel c s^2 + i s + j is pixel (i, j) of
    colour c.
    """
    from torch import nn

    size = 1
    for module in net.modules():
        if isinstance(module, nn.PixelUnshuffle):
            size = module.downscale_factor
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach().float()
            n, channels, height, width = weight.shape
            if channels != 3 * size**2:
                break
            weight = weight.view(n, channels // size**2, size, size, height, width).permute(0, 1, 4, 2, 5, 3)
            return weight.reshape(n, -1, height * size, width * size).numpy()
    raise ConfigError("the stem has no convolution that reads the image's colours")


def filters(weights: np.ndarray) -> Figure:
    """Filters [N,3,H,W] as pictures, each stretched to its own range, grey = 0; the first MOST."""
    from matplotlib.figure import Figure

    shown = weights[:MOST]
    columns = min(8, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(columns, rows + 0.4), layout="constrained")
    figure.suptitle(f"the stem's filters, {weights.shape[2]}x{weights.shape[3]} pixels each", fontsize=9)
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if place < len(shown):
            most = np.abs(shown[place]).max() or 1.0
            axes.imshow((shown[place].transpose(1, 2, 0) / most + 1) / 2)
    return figure


def stage_maps(images: np.ndarray, energies: Sequence[tuple[int, np.ndarray]], names: Sequence[str]) -> Figure:
    """A row an image, uint8 [N,3,H,W], with its class, and beside it the root mean square over the channels of each
    stage's maps, (stride in pixels, [N,h,w])."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.3 * (len(energies) + 1), 1.3 * len(images) + 0.4), layout="constrained")
    grid = figure.subplots(len(images), len(energies) + 1, squeeze=False)
    for row, image, name in zip(range(len(images)), images, names, strict=True):
        shown = [image.transpose(1, 2, 0), *(maps[row] for _, maps in energies)]
        titles = [name.replace("_", " "), *(f"stage {n}, /{stride}" for n, (stride, _) in enumerate(energies, 1))]
        for axes, picture, title in zip(grid[row], shown, titles, strict=True):
            axes.axis("off")
            axes.imshow(picture, cmap=None if picture.ndim == 3 else "viridis")
            if row == 0 or picture.ndim == 3:
                axes.set_title(title, fontsize=8)
    return figure
