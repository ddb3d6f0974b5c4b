"""CIFAR-10, CIFAR-100 and an embedded sample of CIFAR-10 as numpy arrays, and the fixed validation split."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from minuteloop.data import cifar_files as formats
from minuteloop.data import download
from minuteloop.validation import ConfigError, did_you_mean

DATASETS = {"cifar10": formats.CIFAR10, "cifar100": formats.CIFAR100}
SAMPLE = Path(__file__).parent / "sample"  # made by scripts/make_sample.py


@dataclass(frozen=True, eq=False)
class Images:
    """A dataset in memory, in its official order."""

    train_images: np.ndarray  # uint8 [N, 3, 32, 32], RGB, C-contiguous
    train_labels: np.ndarray  # int64 [N]
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]  # a label's name
    mean: tuple[float, float, float]  # of the training pixels as fractions, R G B
    std: tuple[float, float, float]


def load(name: str, root: str | os.PathLike = "auto") -> Images:
    """The dataset `name`: cifar10 and cifar100 (50,000 + 10,000 images) or sample (2,000 + 1,000, embedded).

    `root` is the folder to look in and to download to (`auto`: $MINUTELOOP_DATA or ~/.cache/minuteloop), a folder of
    batches, or an archive; sample needs none. Every byte of CIFAR-10 is checked by SHA-256. Raises ConfigError for an
    unknown name, a damaged file, a folder that cannot be used, and when no source can be reached.
    """
    if name == "sample":
        return _sample()
    if name not in DATASETS:
        raise ConfigError(f"data.name={name}, unknown{did_you_mean(name, [*DATASETS, 'sample'])}")
    if root == "auto":
        root = os.environ.get("MINUTELOOP_DATA") or "~/.cache/minuteloop"
    dataset, root = DATASETS[name], Path(root).expanduser()
    try:
        records = formats.find(dataset, root)
        if records is None:
            records = download.obtain(dataset, root)
    except OSError as error:
        raise ConfigError(f"data.root={root}: {error.strerror or error}; set data.root, or try data=sample") from error
    return Images(
        *_unpack(dataset, records, dataset.train),
        *_unpack(dataset, records, dataset.test),
        dataset.classes,
        dataset.mean,
        dataset.std,
    )


def constants(name: str) -> formats.Dataset:
    """What is known of a dataset without its images: `classes`, `mean` and `std` as in Images."""
    return formats.CIFAR10 if name == "sample" else DATASETS[name]


def split(labels: np.ndarray, holdout: int) -> tuple[np.ndarray, np.ndarray]:
    """The fixed validation split of training `labels` [N]: (training, validation) indices, sorted int64.

    The same for every seed and library version, class-balanced as far as `holdout` divides, and nested: a smaller
    holdout is a part of a larger one. Raises ConfigError when no training image would be left.
    """
    if not 0 <= holdout < len(labels):
        raise ConfigError(f"data.holdout={holdout}: must leave at least one of {len(labels)} training images")
    # numpy's random streams may change between versions, SHAKE-256 cannot
    keys = np.frombuffer(hashlib.shake_256(b"minuteloop validation split").digest(8 * len(labels)), "<u8")
    order = np.lexsort((keys, labels))
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.empty(len(labels), np.int64)  # of an image among those of its class
    rank[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    chosen = np.lexsort((keys, rank))
    return np.sort(chosen[holdout:]), np.sort(chosen[:holdout])


def _unpack(dataset: formats.Dataset, records: formats.Records, batches) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N]."""
    first = len(dataset.labels)  # byte of the first pixel
    images = np.concatenate([records[batch.name][:, first:] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([records[batch.name][:, first - 1] for batch in batches])
    return images, labels.astype(np.int64)


def _sample() -> Images:
    arrays = []
    for part in ("train", "test"):
        with Image.open(SAMPLE / f"{part}.webp") as sprite:
            grid = np.asarray(sprite.convert("RGB"))
        rows, columns = grid.shape[0] // 32, grid.shape[1] // 32
        tiles = grid.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 4, 1, 3)
        # a column of tiles shows one class
        arrays += [tiles.reshape(-1, 3, 32, 32), np.arange(rows * columns) % len(formats.CIFAR10.classes)]
    return Images(*arrays, formats.CIFAR10.classes, formats.CIFAR10.mean, formats.CIFAR10.std)
