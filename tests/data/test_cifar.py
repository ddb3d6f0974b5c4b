"""Loading CIFAR, the fixed validation split and the embedded sample.

Numbers marked official come from the CIFAR page and its users.
"""

import hashlib

import numpy as np
import pytest
from cifar_builders import FIRST_TEST_LABELS, assert_images_equal, files_of, publish, tar_bytes, tiny, write

from minuteloop.data import cifar
from minuteloop.validation import ConfigError

FIRST_TRAIN_LABELS = [6, 9, 9, 4, 1]  # official: frog truck truck deer automobile


def test_cifar10_matches_the_published_dataset(cifar_root):
    images = cifar.load("cifar10", cifar_root)
    assert images.train_images.shape == (50_000, 3, 32, 32) and images.test_images.shape == (10_000, 3, 32, 32)
    assert images.train_labels[:5].tolist() == FIRST_TRAIN_LABELS
    assert images.test_labels[:10].tolist() == FIRST_TEST_LABELS
    assert np.bincount(images.train_labels).tolist() == [5000] * 10
    assert np.bincount(images.test_labels).tolist() == [1000] * 10
    assert images.classes[:4] == ("airplane", "automobile", "bird", "cat")
    values = np.arange(256) / 255
    for channel, (mean, std) in enumerate(zip((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), strict=True)):
        frequency = np.bincount(images.train_images[:, channel].ravel(), minlength=256) / (50_000 * 1024)
        assert frequency @ values == pytest.approx(mean, abs=6e-5) == images.mean[channel]
        variance = frequency @ values**2 - (frequency @ values) ** 2
        assert np.sqrt(variance) == pytest.approx(std, abs=6e-5) == images.std[channel]


@pytest.mark.parametrize("label_bytes", [1, 2])
@pytest.mark.parametrize("layout", ["binary", "python"])
@pytest.mark.parametrize("place", ["usual folder", "root", "archive in root", "root is the archive"])
def test_load_reads_every_layout_in_every_place(tmp_path, serve_as_cifar10, layout, label_bytes, place):
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
    assert_images_equal(cifar.load("cifar10", str(root)), raw, label_bytes)
    assert sorted(tmp_path.rglob("*")) == before  # reading writes nothing


def test_folder_takes_precedence_over_archive(tmp_path, serve_as_cifar10):
    dataset, raw = tiny()
    serve_as_cifar10(publish(dataset, "binary", b""))
    write(tmp_path / dataset.folders["binary"], files_of(dataset, raw, "binary"))
    (tmp_path / "tiny.tar.gz").write_bytes(b"not an archive")
    assert_images_equal(cifar.load("cifar10", tmp_path), raw)


def test_root_auto_is_the_environment_variable_or_the_cache(tmp_path, serve_as_cifar10, monkeypatch):
    dataset, raw = tiny()
    serve_as_cifar10(dataset)
    write(tmp_path / ".cache" / "minuteloop", files_of(dataset, raw, "binary"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MINUTELOOP_DATA", raising=False)
    assert_images_equal(cifar.load("cifar10"), raw)
    other, other_raw = tiny(seed=1)
    serve_as_cifar10(other)
    write(tmp_path / "elsewhere", files_of(other, other_raw, "binary"))
    monkeypatch.setenv("MINUTELOOP_DATA", str(tmp_path / "elsewhere"))
    assert_images_equal(cifar.load("cifar10"), other_raw)


@pytest.mark.parametrize(
    "name, hint",
    [
        ("cifar-10", r"unknown dataset\. Did you mean cifar10\?"),
        ("cifar1000", r"unknown dataset\. Did you mean cifar100\?"),
    ],
)
def test_unknown_dataset_gets_a_suggestion(name, hint):
    with pytest.raises(ConfigError, match=hint):
        cifar.load(name)


def test_error_names_a_root_that_cannot_be_used(tmp_path, offline):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"data\.root=.*/file/data: .*; set data\.root, or use data=sample"):
        cifar.load("cifar10", tmp_path / "file" / "data")


@pytest.mark.parametrize("classes, holdout", [(10, 5000), (100, 5000), (10, 5003), (10, 1), (10, 49_999)])
def test_split_is_a_balanced_partition(classes, holdout):
    labels = np.random.default_rng(3).permutation(np.arange(50_000) % classes)
    train, validation = cifar.split(labels, holdout)
    assert len(validation) == holdout and train.dtype == validation.dtype == np.int64
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(50_000))
    assert np.all(np.diff(train) > 0) and np.all(np.diff(validation) > 0)
    counts = np.bincount(labels[validation], minlength=classes)
    assert set(counts) <= {holdout // classes, -(-holdout // classes)}


def test_split_is_the_same_for_every_seed_and_version():
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
    assert np.all(np.abs(quarters - 1250) < 5 * np.sqrt(1250))  # spread over all of the training set
    assert len(set(np.diff(large))) > 20


def test_split_accepts_no_holdout_and_rejects_all_images():
    labels = np.arange(20) % 2
    train, validation = cifar.split(labels, 0)
    assert train.tolist() == list(range(20)) and validation.tolist() == [] and validation.dtype == np.int64
    assert len(cifar.split(labels, 19)[0]) == 1
    for holdout in (20, 21, -1):
        with pytest.raises(ConfigError, match=rf"data\.holdout={holdout}: must be in \[0, 19\]"):
            cifar.split(labels, holdout)


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


def test_sample_is_the_first_images_of_each_class_of_cifar10(cifar_root):
    sample, official = cifar.load("sample"), cifar.load("cifar10", cifar_root)
    assert (sample.classes, sample.mean, sample.std) == (official.classes, official.mean, official.std)
    for part, per_class in (("train", 200), ("test", 100)):
        images, labels = (getattr(official, f"{part}_{what}") for what in ("images", "labels"))
        mine, mine_labels = (getattr(sample, f"{part}_{what}") for what in ("images", "labels"))
        for label in range(10):
            assert np.array_equal(mine[mine_labels == label], images[labels == label][:per_class])
