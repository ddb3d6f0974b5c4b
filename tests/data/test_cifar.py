"""Formats, the validation split and the sample. Numbers marked official come from the CIFAR page and its users."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minuteloop.data import cifar, download
from minuteloop.data import cifar_files as formats
from minuteloop.validation import ConfigError

FIRST_TEST_LABELS = [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]  # official: cat ship ship airplane frog frog automobile frog ...
FIRST_TRAIN_LABELS = [6, 9, 9, 4, 1]  # official: frog truck truck deer automobile


def tiny(label_bytes=1, seed=0):
    """A dataset of 8 + 4 images in two classes like CIFAR-10 or CIFAR-100, and the record bytes of its files."""
    random = np.random.default_rng(seed)
    raw = {}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        fine = random.permutation([0, 0, 1, 1]).astype(np.uint8)
        labels = np.stack([15 + fine, fine][-label_bytes:], axis=1)
        pixels = random.integers(0, 256, (4, 3072), dtype=np.uint8)
        raw[name] = np.concatenate([labels, pixels], axis=1).tobytes()
    batches = [formats.Batch(name, 4, hashlib.sha256(content).hexdigest()) for name, content in raw.items()]
    base = formats.CIFAR10 if label_bytes == 1 else formats.CIFAR100
    return replace(base, classes=("cat", "dog"), train=tuple(batches[:2]), test=(batches[2],), archives={}), raw


def python2_pickle(records, keys):
    """A file of the python layout, opcode by opcode as Python 2 wrote the official ones; `records` uint8 [N, ...]."""
    pixels = np.ascontiguousarray(records[:, len(keys) :]).tobytes()
    out = b"\x80\x02}("
    for column, key in enumerate(keys):
        out += b"U" + bytes([len(key)]) + key + b"](" + b"".join(b"K%c" % label for label in records[:, column]) + b"e"
    out += b"U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    out += b"M" + len(records).to_bytes(2, "little") + b"M\x00\x0c\x86"
    out += b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    return out + b"T" + len(pixels).to_bytes(4, "little") + pixels + b"tbu."


def files_of(dataset, raw, layout):
    """File name -> content in `layout`."""
    if layout == "binary":
        return {f"{name}.bin": content for name, content in raw.items()}
    width = len(dataset.labels) + 3072
    return {
        name: python2_pickle(np.frombuffer(content, np.uint8).reshape(-1, width), dataset.labels)
        for name, content in raw.items()
    }


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def tar_bytes(members):
    """A .tar.gz, the same at any time; `members`: name -> content, or a TarInfo for what is not a plain file."""
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
    """`dataset` with one archive, tiny.tar.gz, that holds `content`."""
    return replace(
        dataset, archives={"tiny.tar.gz": formats.Archive(layout, len(content), hashlib.md5(content).hexdigest())}
    )


@pytest.fixture
def offline(monkeypatch):
    """Every source is gone, so that a test which would download fails."""
    monkeypatch.setattr(download, "SOURCES", {"cifar10": {}, "cifar100": {}})


@pytest.fixture
def serve_as_cifar10(monkeypatch, offline):
    return lambda dataset: monkeypatch.setitem(cifar.DATASETS, "cifar10", dataset)


def assert_is(images, raw, label_bytes=1):
    rows = {name: np.frombuffer(content, np.uint8).reshape(4, -1) for name, content in raw.items()}
    train = np.concatenate([rows["data_batch_1"], rows["data_batch_2"]])
    assert np.array_equal(images.train_images.reshape(8, 3072), train[:, label_bytes:])
    assert images.train_labels.tolist() == train[:, label_bytes - 1].tolist()
    assert np.array_equal(images.test_images.reshape(4, 3072), rows["test_batch"][:, label_bytes:])
    assert images.test_labels.tolist() == rows["test_batch"][:, label_bytes - 1].tolist()
    assert (images.train_images.dtype, images.train_labels.dtype) == (np.uint8, np.int64)
    assert images.train_images.shape == (8, 3, 32, 32) and images.train_images.flags.c_contiguous


# --- real CIFAR-10 ----------------------------------------------------------------------------------------------


def test_cifar10_is_the_published_dataset(cifar_root):
    images = cifar.load("cifar10", cifar_root)
    assert images.train_images.shape == (50_000, 3, 32, 32) and images.test_images.shape == (10_000, 3, 32, 32)
    assert images.train_labels[:5].tolist() == FIRST_TRAIN_LABELS
    assert images.test_labels[:10].tolist() == FIRST_TEST_LABELS
    assert np.bincount(images.train_labels).tolist() == [5000] * 10
    assert np.bincount(images.test_labels).tolist() == [1000] * 10
    assert images.classes[:4] == ("airplane", "automobile", "bird", "cat")
    values = np.arange(256) / 255
    for channel, (mean, std) in enumerate(zip((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), strict=True)):
        share = np.bincount(images.train_images[:, channel].ravel(), minlength=256) / (50_000 * 1024)
        assert share @ values == pytest.approx(mean, abs=6e-5) == images.mean[channel]
        assert np.sqrt(share @ values**2 - (share @ values) ** 2) == pytest.approx(std, abs=6e-5) == images.std[channel]


def test_cifar10_layouts_agree(cifar_root, tmp_path, offline):
    records = formats.find(formats.CIFAR10, cifar_root)
    raw = {name: rows.tobytes() for name, rows in records.items()}
    write(tmp_path / "cifar-10-batches-py", files_of(formats.CIFAR10, raw, "python"))
    python = formats.find(formats.CIFAR10, tmp_path)
    formats.write_folder(formats.CIFAR10, python, tmp_path / "new" / "cifar-10-batches-bin")
    written = tmp_path / "new" / "cifar-10-batches-bin"
    assert sorted(file.name for file in written.iterdir()) == [
        "batches.meta.txt",
        *(f"data_batch_{n}.bin" for n in range(1, 6)),
        "test_batch.bin",
    ]
    assert all((written / f"{name}.bin").read_bytes() == content for name, content in raw.items())


def test_one_wrong_bit_of_cifar10_is_found(cifar_root, tmp_path, offline):
    records = dict(formats.find(formats.CIFAR10, cifar_root))
    records["data_batch_3"] = records["data_batch_3"].copy()
    records["data_batch_3"][1234, 567] ^= 1
    formats.write_folder(formats.CIFAR10, records, tmp_path / "cifar-10-batches-bin")
    with pytest.raises(ConfigError, match=r"cifar-10-batches-bin/data_batch_3\.bin: damaged \(wrong SHA-256\); delete"):
        cifar.load("cifar10", tmp_path)


# --- where it is found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label_bytes", [1, 2])
@pytest.mark.parametrize("layout", ["binary", "python"])
@pytest.mark.parametrize("place", ["usual folder", "root", "archive in root", "root is the archive"])
def test_every_layout_in_every_place(tmp_path, serve_as_cifar10, layout, label_bytes, place):
    dataset, raw = tiny(label_bytes)
    files, folder = files_of(dataset, raw, layout), dataset.folders[layout]
    archive = tar_bytes({f"{folder}/{name}": content for name, content in files.items()})
    serve_as_cifar10(publish(dataset, layout, archive))
    root = tmp_path
    if place == "usual folder":
        write(tmp_path / folder, files)
    elif place == "root":
        write(tmp_path, files)
    else:
        (tmp_path / "tiny.tar.gz").write_bytes(archive)
        if place == "root is the archive":
            root = (tmp_path / "tiny.tar.gz").rename(tmp_path / "renamed.bin")
    before = sorted(tmp_path.rglob("*"))
    assert_is(cifar.load("cifar10", str(root)), raw, label_bytes)
    assert sorted(tmp_path.rglob("*")) == before  # reading writes nothing


def test_a_folder_goes_before_an_archive(tmp_path, serve_as_cifar10):
    dataset, raw = tiny()
    serve_as_cifar10(publish(dataset, "binary", b""))
    write(tmp_path / dataset.folders["binary"], files_of(dataset, raw, "binary"))
    (tmp_path / "tiny.tar.gz").write_bytes(b"not an archive")
    assert_is(cifar.load("cifar10", tmp_path), raw)


def test_auto_is_the_environment_and_then_the_cache(tmp_path, serve_as_cifar10, monkeypatch):
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    write(tmp_path / ".cache" / "minuteloop", files_of(dataset, raw, "binary"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MINUTELOOP_DATA", raising=False)
    assert_is(cifar.load("cifar10"), raw)
    other, other_raw = tiny(seed=1)
    serve_as_cifar10(other)
    write(tmp_path / "elsewhere", files_of(other, other_raw, "binary"))
    monkeypatch.setenv("MINUTELOOP_DATA", str(tmp_path / "elsewhere"))
    assert_is(cifar.load("cifar10"), other_raw)


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["binary", "python"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: None,
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"\0" if content[:1] != b"\x80" else content[:500],
        lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
        lambda content: b"<!doctype html><title>404</title>",
    ],
    ids=["missing", "empty", "truncated", "length", "one bit", "html"],
)
def test_a_damaged_file_is_named(tmp_path, serve_as_cifar10, layout, damage):
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    files = files_of(dataset, raw, layout)
    name = list(files)[1]
    files[name] = damage(files[name])
    write(tmp_path, {file: content for file, content in files.items() if content is not None})
    with pytest.raises(ConfigError) as error:
        cifar.load("cifar10", tmp_path)
    message = str(error.value)
    assert f"{tmp_path}/{name}: damaged (" in message and "delete" in message and "set data.root" in message
    assert "\n" not in message


def test_without_digests_structure_and_counts_are_checked(tmp_path, serve_as_cifar10):
    dataset, raw = tiny(2)
    dataset = replace(dataset, test=(replace(dataset.test[0], sha256=""),))
    serve_as_cifar10(dataset)
    rows = np.frombuffer(raw["test_batch"], np.uint8).reshape(4, 3074).copy()
    for label in (1 - rows[0, 1], 7):
        rows[0, 1] = label
        write(tmp_path, files_of(dataset, raw | {"test_batch": rows.tobytes()}, "binary"))
        with pytest.raises(ConfigError, match="classes are not equally frequent"):
            cifar.load("cifar10", tmp_path)


def test_a_python_file_is_held_against_its_md5(tmp_path, serve_as_cifar10):
    dataset, raw = tiny(2)
    serve_as_cifar10(replace(dataset, test=(replace(dataset.test[0], sha256="", md5="0" * 32),)))
    write(tmp_path, files_of(dataset, raw, "python"))
    with pytest.raises(ConfigError, match=r"test_batch: damaged \(wrong MD5\)"):
        cifar.load("cifar10", tmp_path)


@pytest.mark.parametrize("cut", [0, 1000])
def test_an_unknown_archive_is_refused(tmp_path, serve_as_cifar10, cut):
    dataset, raw = tiny()
    archive = tar_bytes({f"cifar-10-batches-bin/{name}.bin": content for name, content in raw.items()})
    serve_as_cifar10(publish(dataset, "binary", archive))
    (tmp_path / "tiny.tar.gz").write_bytes(archive[: -cut or None] + (b"" if cut else b"\0"))
    with pytest.raises(ConfigError, match=r"tiny\.tar\.gz: not an official cifar10 archive \(MD5 [0-9a-f]{32}\)"):
        cifar.load("cifar10", tmp_path)


class Payload:
    """A pickle of it runs `command` when it is loaded."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def hostile_pickles(canary):
    touch = f"touch {canary}"
    in_data = {b"labels": [0, 0, 1, 1], b"data": Payload(touch)}
    return {
        "reduce": pickle.dumps(Payload(touch), 2),
        "reduce, newest protocol": pickle.dumps(Payload(touch)),
        "inside the data": pickle.dumps(in_data, 2),
        "opcode i": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "eval": b'cbuiltins\neval\n(S\'__import__("os").system("' + touch.encode() + b"\")'\ntR.",
        "through numpy": b"cnumpy.testing._private.utils\nrunstring\n(S'import os; os.system(\""
        + touch.encode()
        + b"\")'\n}tR.",
    }


@pytest.mark.parametrize("kind", list(hostile_pickles("")))
def test_pickles_are_never_executed(tmp_path, serve_as_cifar10, kind):
    canary = tmp_path / "canary"
    payload = hostile_pickles(canary)[kind]
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    write(tmp_path / "data", files_of(dataset, raw, "python") | {"data_batch_2": payload})
    with pytest.raises(ConfigError, match=r"data_batch_2: damaged \(it asks for [\w.]+\)"):
        cifar.load("cifar10", tmp_path / "data")
    assert not canary.exists()
    pickle.loads(payload, encoding="bytes")  # the payload is a live one
    assert canary.exists()


def test_a_pickle_cannot_forge_object_arrays(tmp_path, serve_as_cifar10):
    # np.ndarray((1,), "O", eight bytes) would read those bytes as a pointer
    forged = (
        b"\x80\x02}(U\x04datacnumpy\nndarray\nK\x01\x85U\x01OU\x08AAAAAAAA\x87RU\x06labels](K\x00K\x00K\x01K\x01eu."
    )
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    write(tmp_path, files_of(dataset, raw, "python") | {"data_batch_1": forged})
    with pytest.raises(ConfigError, match="data_batch_1: damaged"):
        cifar.load("cifar10", tmp_path)


def test_the_handmade_pickle_is_what_numpy_reads():
    records = np.random.default_rng(0).integers(0, 256, (4, 3074), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy.core
        content = pickle.loads(python2_pickle(records, (b"coarse_labels", b"fine_labels")), encoding="bytes")
    assert np.array_equal(content[b"data"], records[:, 2:])
    assert content[b"coarse_labels"] == records[:, 0].tolist() and content[b"fine_labels"] == records[:, 1].tolist()


def test_nothing_is_extracted_from_an_archive(tmp_path, serve_as_cifar10, monkeypatch):
    dataset, raw = tiny()
    canary = tmp_path / "canary"
    members = {f"cifar-10-batches-bin/{name}.bin": content for name, content in raw.items()}
    members |= {"../canary": b"x", str(canary): b"x", "cifar-10-batches-bin/../../canary": b"x"}
    archive = tar_bytes(members)
    serve_as_cifar10(publish(dataset, "binary", archive))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    Path("tiny.tar.gz").write_bytes(archive)
    assert_is(cifar.load("cifar10", "."), raw)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "data", tmp_path / "data" / "tiny.tar.gz"]


def test_a_link_in_an_archive_is_not_followed(tmp_path, serve_as_cifar10):
    dataset, raw = tiny()
    members = {f"cifar-10-batches-bin/{name}.bin": content for name, content in raw.items()}
    (tmp_path / "secret").write_bytes(members["cifar-10-batches-bin/test_batch.bin"])
    link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
    archive = tar_bytes(members | {link.name: link})
    serve_as_cifar10(publish(dataset, "binary", archive))
    (tmp_path / "tiny.tar.gz").write_bytes(archive)
    with pytest.raises(ConfigError, match=r"tiny\.tar\.gz/test_batch\.bin: damaged \(missing\)"):
        cifar.load("cifar10", tmp_path)


@pytest.mark.parametrize("name, hint", [("cifar-10", "nearest: cifar10"), ("cifar1000", "nearest: cifar100")])
def test_an_unknown_name_gets_the_nearest(name, hint):
    with pytest.raises(ConfigError, match=hint):
        cifar.load(name)


def test_a_root_that_cannot_be_used_is_named(tmp_path, offline):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"data\.root=.*/file/data: .*; set data\.root, or try data=sample"):
        cifar.load("cifar10", tmp_path / "file" / "data")


# --- the validation split ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes, holdout", [(10, 5000), (100, 5000), (10, 5003), (10, 1), (10, 49_999)])
def test_split_is_a_balanced_partition(classes, holdout):
    labels = np.random.default_rng(3).permutation(np.arange(50_000) % classes)
    train, validation = cifar.split(labels, holdout)
    assert len(validation) == holdout and train.dtype == validation.dtype == np.int64
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(50_000))
    assert np.all(np.diff(train) > 0) and np.all(np.diff(validation) > 0)
    counts = np.bincount(labels[validation], minlength=classes)
    assert set(counts) <= {holdout // classes, -(-holdout // classes)}


def test_split_never_changes():
    labels = np.arange(50_000) % 10
    digests = []
    for seed in (0, 1):
        np.random.seed(seed)
        _, validation = cifar.split(labels, 5000)
        digests.append(hashlib.sha256(validation.astype("<i8").tobytes()).hexdigest())
    assert digests == ["2371df7afc68e9e4bc0c2f514f25e7175ffbdcdf463728bffcc7cee5c33ebd44"] * 2


def test_split_is_nested_and_not_a_stride():
    labels = np.random.default_rng(5).permutation(np.arange(50_000) % 10)
    small, large = cifar.split(labels, 1000)[1], cifar.split(labels, 5000)[1]
    assert set(small) < set(large)
    quarters = np.histogram(large, bins=4, range=(0, 50_000))[0]
    assert np.all(np.abs(quarters - 1250) < 5 * np.sqrt(1250))  # spread over the whole training set
    assert len(set(np.diff(large))) > 20


def test_split_of_nothing_and_of_too_much():
    labels = np.arange(20) % 2
    train, validation = cifar.split(labels, 0)
    assert train.tolist() == list(range(20)) and validation.tolist() == [] and validation.dtype == np.int64
    assert len(cifar.split(labels, 19)[0]) == 1
    for holdout in (20, 21, -1):
        with pytest.raises(ConfigError, match=f"data.holdout={holdout}: must leave at least one of 20"):
            cifar.split(labels, holdout)


# --- the sample -------------------------------------------------------------------------------------------------


def test_sample_is_embedded_and_balanced(offline, tmp_path):
    images = cifar.load("sample", tmp_path / "nothing here")
    assert images.train_images.shape == (2000, 3, 32, 32) and images.test_images.shape == (1000, 3, 32, 32)
    assert images.train_images.dtype == np.uint8 and images.train_images.flags.c_contiguous
    assert images.train_labels.dtype == np.int64 and len(images.train_labels) == 2000
    for labels in (images.train_labels, images.test_labels):
        for prefix in (10, 128, len(labels)):
            counts = np.bincount(labels[:prefix], minlength=10)
            assert counts.max() - counts.min() <= 1
    assert [hashlib.sha256(part).hexdigest() for part in (images.train_images, images.test_images)] == [
        "ec322825144100d0e2e64c5da41049ba427838007c94c7893d2155e452272e8d",
        "91d3e58f07d7b54f1f0df0aaf7dfbddf779d4bc5029748c84a9a76672f8e7636",
    ]
    assert not (tmp_path / "nothing here").exists()


def test_sample_is_the_first_of_each_class_of_cifar10(cifar_root):
    sample, official = cifar.load("sample"), cifar.load("cifar10", cifar_root)
    assert (sample.classes, sample.mean, sample.std) == (official.classes, official.mean, official.std)
    for part, per_class in (("train", 200), ("test", 100)):
        images, labels = (getattr(official, f"{part}_{what}") for what in ("images", "labels"))
        mine, mine_labels = (getattr(sample, f"{part}_{what}") for what in ("images", "labels"))
        for label in range(10):
            assert np.array_equal(mine[mine_labels == label], images[labels == label][:per_class])
