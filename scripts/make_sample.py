"""Make the images of data=sample: the first 200 training and 100 test images of each CIFAR-10 class, as two sprites.

    python scripts/make_sample.py

A sprite has 50 tiles a row, in reading order. Tile i shows class i % 10, so that a column of tiles shows one class and
any prefix of the sample is balanced. Lossless WebP (5.0 MB) is smaller than optimised PNG (6.5 MB).
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # before an installed minuteloop

from minuteloop.data import cifar

COLUMNS = 50  # tiles in a row


def interleave(images: np.ndarray, labels: np.ndarray, per_class: int) -> np.ndarray:
    """Return the first `per_class` images of each class in official order: uint8 [10 * per_class, 3, 32, 32]."""
    by_class = np.argsort(labels, kind="stable").reshape(10, -1)[:, :per_class]
    return images[by_class.T.ravel()]


def main() -> None:
    cifar10 = cifar.load("cifar10")
    sprites = {
        "train": interleave(cifar10.train_images, cifar10.train_labels, 200),
        "test": interleave(cifar10.test_images, cifar10.test_labels, 100),
    }
    for part, images in sprites.items():
        grid = images.reshape(-1, COLUMNS, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(-1, COLUMNS * 32, 3)
        target = cifar.SAMPLE / f"{part}.webp"
        Image.fromarray(grid).save(f"{target}.part", "WEBP", lossless=True, quality=100, method=6)
        os.replace(f"{target}.part", target)
        print(f"{target.name}: {len(images)} images, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
