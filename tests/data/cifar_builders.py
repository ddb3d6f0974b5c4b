"""Tiny datasets in every published format, and the sources that serve them."""

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace

import numpy as np

from minuteloop.data import cifar, cifar_files, download

FIRST_TEST_LABELS = [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]  # official: cat ship ship airplane frog frog automobile frog ...


def tiny(label_bytes=1, seed=0):
    """Return a dataset of 8 + 4 images in two classes, like CIFAR-10 or CIFAR-100, and the bytes of its files."""
    random = np.random.default_rng(seed)
    raw = {}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        fine = random.permutation([0, 0, 1, 1]).astype(np.uint8)
        labels = np.stack([15 + fine, fine][-label_bytes:], axis=1)
        pixels = random.integers(0, 256, (4, 3072), dtype=np.uint8)
        raw[name] = np.concatenate([labels, pixels], axis=1).tobytes()
    batches = [cifar_files.Batch(name, 4, hashlib.sha256(content).hexdigest()) for name, content in raw.items()]
    base = cifar_files.CIFAR10 if label_bytes == 1 else cifar_files.CIFAR100
    return replace(base, classes=("cat", "dog"), train=tuple(batches[:2]), test=(batches[2],), archives={}), raw


def python2_pickle(records, keys):
    """Return a file of the python layout with the opcodes of the official ones (Python 2); `records` uint8 [N, ...]."""
    pixels = np.ascontiguousarray(records[:, len(keys) :]).tobytes()
    out = b"\x80\x02}("
    for column, key in enumerate(keys):
        out += b"U" + bytes([len(key)]) + key + b"](" + b"".join(b"K%c" % label for label in records[:, column]) + b"e"
    out += b"U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    out += b"M" + len(records).to_bytes(2, "little") + b"M\x00\x0c\x86"
    out += b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    return out + b"T" + len(pixels).to_bytes(4, "little") + pixels + b"tbu."


def files_of(dataset, raw, layout):
    """Return {file name: content} in `layout`."""
    if layout == "binary":
        return {f"{name}.bin": content for name, content in raw.items()}
    width = len(dataset.labels) + 3072
    return {
        name: python2_pickle(np.frombuffer(content, np.uint8).reshape(-1, width), dataset.labels)
        for name, content in raw.items()
    }


def write(folder, files):
    """Write {file name: content} to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def tar_bytes(members):
    """Return a reproducible .tar.gz; `members`: name -> content, or a TarInfo unless it is a plain file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def publish(dataset, layout, content):
    """Return `dataset` with one archive, tiny.tar.gz, with this content."""
    return replace(
        dataset, archives={"tiny.tar.gz": cifar_files.Archive(layout, len(content), hashlib.md5(content).hexdigest())}
    )


def assert_images_equal(images, raw, label_bytes=1):
    rows = {name: np.frombuffer(content, np.uint8).reshape(4, -1) for name, content in raw.items()}
    train = np.concatenate([rows["data_batch_1"], rows["data_batch_2"]])
    assert np.array_equal(images.train_images.reshape(8, 3072), train[:, label_bytes:])
    assert images.train_labels.tolist() == train[:, label_bytes - 1].tolist()
    assert np.array_equal(images.test_images.reshape(4, 3072), rows["test_batch"][:, label_bytes:])
    assert images.test_labels.tolist() == rows["test_batch"][:, label_bytes - 1].tolist()
    assert (images.train_images.dtype, images.train_labels.dtype) == (np.uint8, np.int64)
    assert images.train_images.shape == (8, 3, 32, 32) and images.train_images.flags.c_contiguous


def serve(setitem, dataset, sources):
    """Replace cifar10 and its sources."""
    setitem(cifar.DATASETS, "cifar10", dataset)
    setitem(download.SOURCES, "cifar10", sources)


def names(folder):
    """Return the sorted file names of a folder."""
    return sorted(path.name for path in folder.iterdir())


def assert_clean(root):
    """Assert that `root` holds the lock and one complete folder."""
    assert names(root) == [".lock", "cifar-10-batches-bin"]
    assert len(names(root / "cifar-10-batches-bin")) == 4
