"""File formats of CIFAR: the binary layout (records), the python layout (pickles) and archives of both.

A record is one image in the binary layout: its label bytes (CIFAR-100: coarse, fine), then 3,072 pixel bytes (a red, a
green and a blue plane of 32x32). Every format is converted to records and verified as records.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minuteloop.data.cifar_pickles import unpickle
from minuteloop.validation import ConfigError

PIXELS = 3 * 32 * 32  # bytes of an image
# no advice to delete: the files may be the user's own
OTHER_ROOT = "set data.root to the official files, or to a new folder to download them"


@dataclass(frozen=True)
class Batch:
    """One file of images: `name` in the python layout, `name`.bin in the binary layout."""

    name: str
    images: int
    sha256: str = ""  # of its records
    md5: str = ""  # of the python file


@dataclass(frozen=True)
class Archive:
    """A published .tar.gz of one layout."""

    layout: str
    size: int  # bytes
    md5: str


@dataclass(frozen=True)
class Dataset:
    """What is published about a dataset: classes, statistics, file names and digests."""

    name: str
    classes: tuple[str, ...]
    labels: tuple[bytes, ...]  # keys in the pickles, in the order of the label bytes; the last one is the class
    mean: tuple[float, float, float]  # of the training pixels in [0, 1], R G B
    std: tuple[float, float, float]
    train: tuple[Batch, ...]
    test: tuple[Batch, ...]
    folders: dict[str, str]  # layout -> folder inside its archive
    class_file: str  # with the class names, in the binary layout
    archives: dict[str, Archive]  # by file name


CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR10 = Dataset(
    name="cifar10",
    classes=tuple(CIFAR10_CLASSES.split()),
    labels=(b"labels",),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    train=(
        Batch("data_batch_1", 10_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        Batch("data_batch_2", 10_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        Batch("data_batch_3", 10_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        Batch("data_batch_4", 10_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        Batch("data_batch_5", 10_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ),
    test=(Batch("test_batch", 10_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),),
    folders={"binary": "cifar-10-batches-bin", "python": "cifar-10-batches-py"},
    class_file="batches.meta.txt",
    archives={
        "cifar-10-binary.tar.gz": Archive("binary", 170_052_171, "c32a1d4ab5d03f1284b67883e8d87530"),
        "cifar-10-python.tar.gz": Archive("python", 170_498_071, "c58f30108f718f92721af3b95e74349a"),
    },
)

CIFAR100 = Dataset(
    name="cifar100",
    classes=tuple(CIFAR100_CLASSES.split()),
    labels=(b"coarse_labels", b"fine_labels"),
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    # MD5: torchvision/datasets/cifar.py
    train=(Batch("train", 50_000, md5="16019d7e3df5f24257cddd939b257f8d"),),
    test=(Batch("test", 10_000, md5="f0ef6b0ae62326f3e7ffdfab6717acfc"),),
    folders={"binary": "cifar-100-binary", "python": "cifar-100-python"},
    class_file="fine_label_names.txt",
    archives={
        "cifar-100-binary.tar.gz": Archive("binary", 168_513_733, "03b5dce01913d631647c71ecec9e9cb8"),
        "cifar-100-python.tar.gz": Archive("python", 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85"),
    },
)

Records = dict[str, np.ndarray]  # batch name -> uint8 [N, label bytes + PIXELS]


class DamagedFileError(Exception):
    """The reason why a file is rejected."""


def find(dataset: Dataset, root: Path) -> Records | None:
    """Return the records of `dataset` in `root`, or None if there are none.

    Tries in this order: `root` itself as an archive; a folder of either layout, which is `root` or has its published
    name in `root` or in Keras' folder there; an archive in `root`.

    Raises:
        ConfigError: if the files are damaged.
    """
    if root.is_file():
        return read_archive(dataset, root)
    for layout, folder_name in dataset.folders.items():
        for folder in (root / folder_name, root, root / f"{folder_name}-target" / folder_name):  # the last: Keras 3
            if any((folder / _file_name(batch, layout)).is_file() for batch in dataset.train + dataset.test):
                return read_folder(dataset, folder, layout)
    for archive_name in dataset.archives:
        if (root / archive_name).is_file():
            return read_archive(dataset, root / archive_name)
    return None


def read_folder(dataset: Dataset, folder: Path, layout: str) -> Records:
    """Return the records of a folder in `layout` (binary | python).

    Raises:
        ConfigError: naming a missing or damaged file.
    """
    return decode(dataset, layout, lambda file_name: (folder / file_name).read_bytes(), folder)


def read_archive(dataset: Dataset, path: Path) -> Records:
    """Return the records of an official .tar.gz, which is identified by its MD5; extracts nothing to disk.

    Raises:
        ConfigError: if the archive is not an official one, or is damaged.
    """
    digest = md5(path)
    archive = next((archive for archive in dataset.archives.values() if archive.md5 == digest), None)
    if archive is None:
        raise ConfigError(
            f"{path}: not an official {dataset.name} archive "
            f"(MD5 {digest}, {path.stat().st_size:,} bytes); {OTHER_ROOT}"
        )
    folder, batches = dataset.folders[archive.layout], dataset.train + dataset.test
    members = {f"{folder}/{_file_name(batch, archive.layout)}" for batch in batches}
    files = {}
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                if member.name in members and member.isreg():
                    files[Path(member.name).name] = tar.extractfile(member).read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); {OTHER_ROOT}") from error
    return decode(dataset, archive.layout, files.__getitem__, path)


def decode(dataset: Dataset, layout: str, read: Callable[[str], bytes], source: Path) -> Records:
    """Return the verified records of all batches; `read(file name)` returns a file in `layout`, on any thread.

    Raises:
        ConfigError: naming the file in `source` that is missing, has the wrong length or digest or does not follow the
            layout; or if the classes of the training or test images are not equally frequent.
    """

    def records_of(batch: Batch) -> np.ndarray:
        try:
            return _decode_batch(dataset, batch, layout, read)
        except DamagedFileError as error:
            where = f"{source}/{_file_name(batch, layout)}"
            raise ConfigError(f"{where}: not the official file of {dataset.name} ({error}); {OTHER_ROOT}") from error

    batches = dataset.train + dataset.test
    with ThreadPoolExecutor() as pool:
        records = dict(zip((batch.name for batch in batches), pool.map(records_of, batches), strict=True))
    for part in (dataset.train, dataset.test):
        labels = np.concatenate([records[batch.name][:, len(dataset.labels) - 1] for batch in part])
        counts = np.bincount(labels, minlength=len(dataset.classes)).tolist()
        if counts != [len(labels) // len(dataset.classes)] * len(dataset.classes):
            raise ConfigError(f"{source}: not {dataset.name} (classes are not equally frequent); {OTHER_ROOT}")
    return records


def _decode_batch(dataset: Dataset, batch: Batch, layout: str, read: Callable[[str], bytes]) -> np.ndarray:
    """Return the verified records of one file, uint8 [N, label bytes + PIXELS]. Raises DamagedFileError."""
    try:
        raw = read(_file_name(batch, layout))
    except (OSError, KeyError) as error:
        raise DamagedFileError(getattr(error, "strerror", None) or "missing") from error
    if layout == "python":
        if batch.md5 and hashlib.md5(raw, usedforsecurity=False).hexdigest() != batch.md5:
            raise DamagedFileError("its content differs: wrong MD5")
        try:
            raw = unpickle(raw, dataset.labels)
        except Exception as error:  # a hostile pickle can raise anything
            raise DamagedFileError(" ".join(str(error).split()) or type(error).__name__) from error
    width = len(dataset.labels) + PIXELS
    if len(raw) != batch.images * width:
        raise DamagedFileError(f"{len(raw) / width:,g} images instead of {batch.images:,}")
    if batch.sha256 and hashlib.sha256(raw).hexdigest() != batch.sha256:
        raise DamagedFileError("its images or labels differ: wrong SHA-256")
    return np.frombuffer(raw, np.uint8).reshape(batch.images, width)


def write_folder(dataset: Dataset, records: Records, folder: Path) -> None:
    """Write the binary layout atomically: the folder appears only when all of it is on disk.

    Not safe against a second process that writes the same folder.

    Raises:
        OSError: if it cannot be written.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    files = {f"{name}.bin": rows.tobytes() for name, rows in records.items()}
    files[dataset.class_file] = "".join(f"{name}\n" for name in dataset.classes).encode()
    for name, content in files.items():
        with open(part / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    os.replace(part, folder)


def md5(path: Path) -> str:
    """Return the hexadecimal MD5 of a file, which identifies the official archives (it is what is published)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _file_name(batch: Batch, layout: str) -> str:
    return batch.name + (".bin" if layout == "binary" else "")
