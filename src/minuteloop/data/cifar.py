"""CIFAR-10, CIFAR-100 and an embedded sample of CIFAR-10 as numpy arrays, and the fixed validation split."""

import hashlib
import itertools
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from minuteloop.data import cifar_files
from minuteloop.data.cifar_files import CIFAR10, CIFAR100, Batch, Dataset, Records
from minuteloop.data.download import download
from minuteloop.validation import ConfigError, did_you_mean, quoted

DATASETS = {"cifar10": CIFAR10, "cifar100": CIFAR100}
FILES_LOOKED_AT = 1000  # to say what a folder holds
SAMPLE = Path(__file__).parent / "sample"  # made by scripts/make_sample.py


@dataclass(frozen=True, eq=False)
class Images:
    """A dataset in memory, in its official order."""

    train_images: np.ndarray  # uint8 [N,3,32,32], RGB, C-contiguous
    train_labels: np.ndarray  # int64 [N]
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]  # names, by label
    mean: tuple[float, float, float]  # of the training pixels in [0, 1], R G B
    std: tuple[float, float, float]


def load(name: str, root: str | os.PathLike = "auto") -> Images:
    """Load cifar10 or cifar100 (50,000 + 10,000 images), or sample (2,000 + 1,000 images of CIFAR-10, embedded).

    `root` is the folder to search and to download to, a folder of batches, or an archive (`auto`: see resolve_root);
    sample ignores it. CIFAR-10 is verified by SHA-256.

    Raises:
        ConfigError: if the name is unknown, a file is not the official one, the folder cannot be used or holds other
            files, or no source can be reached.
    """
    if name == "sample":
        return _load_sample()
    if name not in DATASETS:
        raise ConfigError(f"data.name={name}: unknown dataset{did_you_mean(name, [*DATASETS, 'sample'])}")
    dataset, root = DATASETS[name], resolve_root(root)
    try:
        records = cifar_files.find(dataset, root)
        if records is None:
            _check_free_to_download(dataset, root)
            records = download(dataset, root)
    except OSError as error:
        raise ConfigError(f"data.root={root}: {error.strerror or error}; set data.root, or use data=sample") from error
    return Images(
        *_to_arrays(dataset, records, dataset.train),
        *_to_arrays(dataset, records, dataset.test),
        dataset.classes,
        dataset.mean,
        dataset.std,
    )


def _check_free_to_download(dataset: Dataset, root: Path) -> None:
    """Raise ConfigError where `root` holds files of the user's, which a download would join."""
    ours = {name for known in DATASETS.values() for name in (*known.folders.values(), *known.archives)}
    entries = root.iterdir() if root.is_dir() else ()
    names = sorted(path.name for path in entries if path.name.removesuffix(".part") not in ours)
    names = [name for name in names if not name.startswith(".")]
    if not names:
        return
    kinds = Counter(path.suffix.lower() or "no suffix" for path in _first_files(root, FILES_LOOKED_AT))
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3)) or "only folders"
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    new = quoted("data.root", root / dataset.name)
    raise ConfigError(
        f"data.root={root}: holds {listed} (files: {found}), but not {' or '.join(dataset.folders.values())}; "
        f"nothing is downloaded into a folder with other files: use {new}, or data.root=auto"
    )


def _first_files(root: Path, limit: int) -> list[Path]:
    """Return up to `limit` files below `root`."""
    return list(itertools.islice((path for path in root.rglob("*") if path.is_file()), limit))


def resolve_root(root: str | os.PathLike) -> Path:
    """Return the path that `root` of `load` means: `auto` is $MINUTELOOP_DATA or ~/.cache/minuteloop."""
    if root == "auto":
        root = os.environ.get("MINUTELOOP_DATA") or "~/.cache/minuteloop"
    return Path(root).expanduser()


def constants(name: str) -> Dataset:
    """Return the `classes`, `mean` and `std` of a dataset, as in Images, without loading its images."""
    return CIFAR10 if name == "sample" else DATASETS[name]


def split(labels: np.ndarray, holdout: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the (training, validation) indices of the fixed split of training `labels` [N]: sorted int64.

    It is the same for every seed and library version, class-balanced as far as `holdout` divides, and nested: a smaller
    validation split is a subset of a larger one.

    Raises:
        ConfigError: if no training image would remain.
    """
    if not 0 <= holdout < len(labels):
        raise ConfigError(f"data.holdout={holdout}: must be in [0, {len(labels) - 1}], to leave a training image")
    # SHAKE-256, because numpy's random streams may change between versions
    keys = np.frombuffer(hashlib.shake_256(b"minuteloop validation split").digest(8 * len(labels)), "<u8")
    by_class = np.lexsort((keys, labels))
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.empty(len(labels), np.int64)  # of an image within its class
    rank[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    order = np.lexsort((keys, rank))
    return np.sort(order[holdout:]), np.sort(order[:holdout])


def _to_arrays(dataset: Dataset, records: Records, batches: tuple[Batch, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [N,3,32,32] and labels int64 [N]."""
    label_bytes = len(dataset.labels)
    images = np.concatenate([records[batch.name][:, label_bytes:] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([records[batch.name][:, label_bytes - 1] for batch in batches])
    return images, labels.astype(np.int64)


def _load_sample() -> Images:
    arrays = []
    for part in ("train", "test"):
        with Image.open(SAMPLE / f"{part}.webp") as sprite:
            pixels = np.asarray(sprite.convert("RGB"))
        rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
        tiles = pixels.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 4, 1, 3)
        # each column of tiles holds one class
        arrays += [tiles.reshape(-1, 3, 32, 32), np.arange(rows * columns) % len(CIFAR10.classes)]
    return Images(*arrays, CIFAR10.classes, CIFAR10.mean, CIFAR10.std)
