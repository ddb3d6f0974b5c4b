"""Formats of CIFAR files: layouts agree, damaged and hostile files are rejected."""

import os
import pickle
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cifar_builders import assert_images_equal, files_of, publish, python2_pickle, tar_bytes, tiny, write

from minuteloop.data import cifar, cifar_files
from minuteloop.validation import ConfigError


def test_cifar10_layouts_agree(cifar_root, tmp_path, offline):
    records = cifar_files.find(cifar_files.CIFAR10, cifar_root)
    raw = {name: rows.tobytes() for name, rows in records.items()}
    write(tmp_path / "cifar-10-batches-py", files_of(cifar_files.CIFAR10, raw, "python"))
    python = cifar_files.find(cifar_files.CIFAR10, tmp_path)
    cifar_files.write_folder(cifar_files.CIFAR10, python, tmp_path / "new" / "cifar-10-batches-bin")
    written = tmp_path / "new" / "cifar-10-batches-bin"
    assert sorted(file.name for file in written.iterdir()) == [
        "batches.meta.txt",
        *(f"data_batch_{n}.bin" for n in range(1, 6)),
        "test_batch.bin",
    ]
    assert all((written / f"{name}.bin").read_bytes() == content for name, content in raw.items())


def test_one_flipped_bit_of_cifar10_is_detected(cifar_root, tmp_path, offline):
    records = dict(cifar_files.find(cifar_files.CIFAR10, cifar_root))
    records["data_batch_3"] = records["data_batch_3"].copy()
    records["data_batch_3"][1234, 567] ^= 1
    cifar_files.write_folder(cifar_files.CIFAR10, records, tmp_path / "cifar-10-batches-bin")
    with pytest.raises(ConfigError, match=r"data_batch_3\.bin: not the official file .*differ: wrong SHA-256\)"):
        cifar.load("cifar10", tmp_path)


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
def test_error_names_the_damaged_file(tmp_path, serve_as_cifar10, layout, damage):
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    files = files_of(dataset, raw, layout)
    name = list(files)[1]
    files[name] = damage(files[name])
    write(tmp_path, {file: content for file, content in files.items() if content is not None})
    with pytest.raises(ConfigError) as error:
        cifar.load("cifar10", tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path}/{name}: not the official file of cifar10 (")
    assert "delete" not in message and "set data.root" in message
    assert "\n" not in message


def test_class_counts_are_checked_where_no_digest_is_published(tmp_path, serve_as_cifar10):
    dataset, raw = tiny(2)
    dataset = replace(dataset, test=(replace(dataset.test[0], sha256=""),))
    serve_as_cifar10(dataset)
    rows = np.frombuffer(raw["test_batch"], np.uint8).reshape(4, 3074).copy()
    for label in (1 - rows[0, 1], 7):
        rows[0, 1] = label
        write(tmp_path, files_of(dataset, raw | {"test_batch": rows.tobytes()}, "binary"))
        with pytest.raises(ConfigError, match="classes are not equally frequent"):
            cifar.load("cifar10", tmp_path)


def test_python_file_is_verified_by_md5(tmp_path, serve_as_cifar10):
    dataset, raw = tiny(2)
    serve_as_cifar10(replace(dataset, test=(replace(dataset.test[0], sha256="", md5="0" * 32),)))
    write(tmp_path, files_of(dataset, raw, "python"))
    with pytest.raises(ConfigError, match=r"test_batch: not the official file .*wrong MD5\)"):
        cifar.load("cifar10", tmp_path)


@pytest.mark.parametrize("cut", [0, 1000])
def test_unknown_archive_is_rejected(tmp_path, serve_as_cifar10, cut):
    dataset, raw = tiny()
    archive = tar_bytes({f"cifar-10-batches-bin/{name}.bin": content for name, content in raw.items()})
    serve_as_cifar10(publish(dataset, "binary", archive))
    (tmp_path / "tiny.tar.gz").write_bytes(archive[: -cut or None] + (b"" if cut else b"\0"))
    with pytest.raises(ConfigError, match=r"tiny\.tar\.gz: not an official cifar10 archive \(MD5 [0-9a-f]{32}, "):
        cifar.load("cifar10", tmp_path)


class Payload:
    """Its pickle runs `command` when it is loaded."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def hostile_pickles(canary):
    """Return pickles that create the file `canary` when they are loaded, by kind."""
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
    with pytest.raises(ConfigError, match=r"data_batch_2: not the official .*\(forbidden global [\w.]+\)"):
        cifar.load("cifar10", tmp_path / "data")
    assert not canary.exists()
    pickle.loads(payload, encoding="bytes")  # the payload works
    assert canary.exists()


def test_pickle_cannot_forge_object_arrays(tmp_path, serve_as_cifar10):
    # np.ndarray((1,), "O", eight bytes) would read those bytes as a pointer
    forged = (
        b"\x80\x02}(U\x04datacnumpy\nndarray\nK\x01\x85U\x01OU\x08AAAAAAAA\x87RU\x06labels](K\x00K\x00K\x01K\x01eu."
    )
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    write(tmp_path, files_of(dataset, raw, "python") | {"data_batch_1": forged})
    with pytest.raises(ConfigError, match="data_batch_1: not the official file"):
        cifar.load("cifar10", tmp_path)


def test_handmade_pickle_loads_in_numpy():
    records = np.random.default_rng(0).integers(0, 256, (4, 3074), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy.core
        content = pickle.loads(python2_pickle(records, (b"coarse_labels", b"fine_labels")), encoding="bytes")
    assert np.array_equal(content[b"data"], records[:, 2:])
    assert content[b"coarse_labels"] == records[:, 0].tolist() and content[b"fine_labels"] == records[:, 1].tolist()


def test_archive_members_are_never_extracted(tmp_path, serve_as_cifar10, monkeypatch):
    dataset, raw = tiny()
    canary = tmp_path / "canary"
    members = {f"cifar-10-batches-bin/{name}.bin": content for name, content in raw.items()}
    members |= {"../canary": b"x", str(canary): b"x", "cifar-10-batches-bin/../../canary": b"x"}
    archive = tar_bytes(members)
    serve_as_cifar10(publish(dataset, "binary", archive))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    Path("tiny.tar.gz").write_bytes(archive)
    assert_images_equal(cifar.load("cifar10", "."), raw)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "data", tmp_path / "data" / "tiny.tar.gz"]


def test_links_in_an_archive_are_not_followed(tmp_path, serve_as_cifar10):
    dataset, raw = tiny()
    members = {f"cifar-10-batches-bin/{name}.bin": content for name, content in raw.items()}
    (tmp_path / "secret").write_bytes(members["cifar-10-batches-bin/test_batch.bin"])
    link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
    archive = tar_bytes(members | {link.name: link})
    serve_as_cifar10(publish(dataset, "binary", archive))
    (tmp_path / "tiny.tar.gz").write_bytes(archive)
    with pytest.raises(ConfigError, match=r"tiny\.tar\.gz/test_batch\.bin: not the official file .*\(missing\)"):
        cifar.load("cifar10", tmp_path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("keys", [(b"labels", b"data"), ("labels", "data")])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_files_pickled_again_load_where_a_digest_proves_them(tmp_path, serve_as_cifar10, protocol, keys, order):
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    for name, content in raw.items():
        rows = np.frombuffer(content, np.uint8).reshape(-1, 3073)
        columns = rows[:, 0].tolist(), rows[:, 1:].copy(order)
        pickled = pickle.dumps(dict(zip(keys, columns, strict=True)), protocol)
        assert b"_core" in pickled or np.__version__ < "2"
        write(tmp_path, {name: pickled})
    assert_images_equal(cifar.load("cifar10", tmp_path), raw)


def test_a_cut_file_says_how_many_images_it_has(tmp_path, serve_as_cifar10):
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    write(tmp_path, files_of(dataset, raw | {"data_batch_2": raw["data_batch_2"][: 3 * 3073]}, "binary"))
    with pytest.raises(ConfigError, match=r"data_batch_2\.bin: .* \(3 images instead of 4\)"):
        cifar.load("cifar10", tmp_path)


def test_keras_cache_is_found(tmp_path, serve_as_cifar10):
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    write(tmp_path / "cifar-10-batches-py-target/cifar-10-batches-py", files_of(dataset, raw, "python"))
    assert_images_equal(cifar.load("cifar10", tmp_path), raw)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["cat/1.png", "cat/2.png", "dog/1.png"], r"holds cat, dog \(files: 3 \.png\)"),
        (["data.npz"], r"holds data\.npz \(files: 1 \.npz\)"),
        (["train.parquet", "test.parquet"], r"holds test\.parquet, train\.parquet \(files: 2 \.parquet\)"),
        (["cifar.tar"], r"holds cifar\.tar \(files: 1 \.tar\)"),
        ([f"{n}.png" for n in range(7)], r"holds 0\.png, .* and 2 more \(files: 7 \.png\)"),
    ],
)
def test_nothing_is_downloaded_into_a_folder_with_other_files(tmp_path, published, files, found):
    published("good")
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=rf"data\.root=.*: {found}.*; nothing is downloaded") as error:
        cifar.load("cifar10", tmp_path)
    assert f"data.root={tmp_path}/cifar10, or data.root=auto" in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
