"""A disk that is full or read-only: one line names the file, nothing half-written, nothing said to be saved."""

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import minuteloop
from minuteloop.training import checkpoint
from minuteloop.training.classifier import Classifier

ROOT = Path(__file__).parents[2]
SMALL = ["data=sample", "data.holdout=1360", "recipe.batch_size=32", "evaluations=2", "threads=1", "logger=none"]
SMALL += ["arch=resnet18", "size.reduce=32", "size.depth=0.1", "size.width=0.0625", "budget=60steps"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def always_saving(monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)


def fill(monkeypatch, *names: str) -> None:
    """Writes to files of these names end in /dev/full, which has no space left."""
    real = Path.open

    def opened(path, mode="r", *more, **options):
        full = path.name.removesuffix(".tmp") in names and mode[0] in "wa"
        if full and mode[0] == "w":
            real(path, mode, *more, **options).close()  # the file is made before it turns out that nothing fits
        return real(Path("/dev/full") if full else path, mode, *more, **options)

    monkeypatch.setattr(Path, "open", opened)


def assert_nothing_false(folder: Path) -> None:
    assert not [*folder.glob("*.tmp")]
    if (folder / "result.json").exists():
        assert json.loads((folder / "result.json").read_text())["status"] == "failed"
    if (folder / "log.txt").exists():
        assert "finished" not in (folder / "log.txt").read_text()


@pytest.mark.parametrize("name", ["config.yaml", "result.json", "metrics.csv", "log.txt", "model.safetensors"])
def test_a_file_that_cannot_be_written_is_named(here, monkeypatch, capsys, name):
    with monkeypatch.context() as patch:
        fill(patch, name)
        with pytest.raises(OSError) as error:
            minuteloop.run([*SMALL, "hydra.run.dir=mine"])
    assert error.value.errno == errno.ENOSPC and error.value.filename == f"mine/{name}"
    assert str(error.value) == f"[Errno 28] No space left on device: 'mine/{name}'"
    assert "finished" not in capsys.readouterr().out
    assert_nothing_false(here / "mine")


def test_earlier_files_outlive_a_disk_that_fills_up_later(here, monkeypatch, always_saving):
    def full(module, batch, batch_idx):
        if module.global_step == 40:
            fill(patch, "last.ckpt", "result.json", "model.safetensors", "metrics.csv")
        return step(module, batch, batch_idx)

    step = Classifier.training_step
    minuteloop.run([*SMALL, "hydra.run.dir=whole"])
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", full)
        with pytest.raises(OSError, match=r"mine/metrics\.csv"):
            minuteloop.run([*SMALL, "hydra.run.dir=mine"])
    assert_nothing_false(here / "mine")
    record = json.loads((here / "mine/result.json").read_text())
    assert record["plan"]["steps"] == 60 and "killed" in record["error"]
    assert (here / "mine/log.txt").read_text().count(
        "warning: [Errno 28] No space left on device: 'mine/last.ckpt'"
    ) == 1
    assert minuteloop.run([*SMALL, "resume=mine"])["status"] == "finished"
    assert "going on after step 40" in (here / "mine/log.txt").read_text()
    for name in ("model.safetensors", "metrics.csv"):
        assert (here / "mine" / name).read_bytes() == (here / "whole" / name).read_bytes()


def test_a_checkpoint_that_cannot_be_written_costs_a_warning_and_not_the_run(here, monkeypatch, always_saving):
    fill(monkeypatch, "last.ckpt")
    assert minuteloop.run([*SMALL, "hydra.run.dir=mine"])["status"] == "finished"
    assert (here / "mine/log.txt").read_text().count("training goes on without a new checkpoint") == 1


def test_the_command_line_tells_it_in_one_line_and_exits_with_1(tmp_path):
    limit = 50_000  # bytes a file; the weights take more
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *SMALL, "budget=3steps", "hydra.run.dir=mine"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1 and "finished" not in done.stdout
    assert done.stderr == f"error: [Errno 27] File too large: '{tmp_path}/mine/model.safetensors'\n"
    assert_nothing_false(tmp_path / "mine")
    assert "model.safetensors" in json.loads((tmp_path / "mine/result.json").read_text())["error"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 kB of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("free", [0, 4096, 16384, 90_112])  # bytes
def test_a_run_on_a_real_disk_that_is_full(tiny_disk, free):
    (tiny_disk / "ballast").write_bytes(bytes(256 * 1024 - free))
    with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device: '.*disk.*'"):
        minuteloop.run([*SMALL, "budget=5steps", f"hydra.run.dir={tiny_disk}/mine"])
    assert_nothing_false(tiny_disk / "mine")
    (tiny_disk / "ballast").unlink()
    assert (
        minuteloop.run([*SMALL, "budget=5steps", f"hydra.run.dir={tiny_disk}/mine", "resume=true"])["status"]
        == "finished"
    )


def test_a_disk_that_turns_read_only(tiny_disk, monkeypatch):
    def turned(module, batch, batch_idx):
        if module.global_step == 40:
            subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
        return step(module, batch, batch_idx)

    step = Classifier.training_step
    monkeypatch.setattr(Classifier, "training_step", turned)
    with pytest.raises(OSError, match=r"Read-only file system: '.*/mine/metrics\.csv'"):
        minuteloop.run([*SMALL, f"hydra.run.dir={tiny_disk}/mine"])
    assert_nothing_false(tiny_disk / "mine")
