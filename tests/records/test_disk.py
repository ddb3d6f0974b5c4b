"""A full or read-only disk: one line names the file, no file is half-written, no log line claims success."""

import errno
import json
import resource
import subprocess
from pathlib import Path

import pytest
from small_run import OPTIONS, TRAIN, assert_same_training

import minuteloop
from minuteloop.training import checkpoint
from minuteloop.training.classifier import Classifier


@pytest.fixture
def always_saving(monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0)
    monkeypatch.setattr(checkpoint, "FRACTION", 1e9)


def fill(monkeypatch, *names: str) -> None:
    """Redirect writes to files of these names to /dev/full, which has no space left."""
    real = Path.open

    def open_full(path, mode="r", *more, **kwargs):
        full = path.name.removesuffix(".tmp") in names and mode[0] in "wa"
        if full and mode[0] == "w":
            real(path, mode, *more, **kwargs).close()  # the file is made before it turns out that nothing fits
        return real(Path("/dev/full") if full else path, mode, *more, **kwargs)

    monkeypatch.setattr(Path, "open", open_full)


def assert_nothing_claims_success(folder: Path) -> None:
    assert not [*folder.glob("*.tmp")]
    if (folder / "result.json").exists():
        assert json.loads((folder / "result.json").read_text())["status"] == "failed"
    if (folder / "log.txt").exists():
        assert "finished" not in (folder / "log.txt").read_text()


@pytest.mark.parametrize("name", ["config.yaml", "result.json", "metrics.csv", "log.txt", "model.safetensors"])
def test_error_names_the_file_that_cannot_be_written(cwd, monkeypatch, capsys, name):
    with monkeypatch.context() as patch:
        fill(patch, name)
        with pytest.raises(OSError) as error:
            minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert error.value.errno == errno.ENOSPC and error.value.filename == f"mine/{name}"
    assert str(error.value) == f"[Errno 28] No space left on device: 'mine/{name}'"
    assert "finished" not in capsys.readouterr().out
    assert_nothing_claims_success(cwd / "mine")


def test_earlier_files_survive_a_disk_that_fills_up_and_the_run_resumes(cwd, monkeypatch, always_saving):
    def fill_up(module, batch, batch_idx):
        if module.global_step == 40:
            fill(patch, "last.ckpt", "result.json", "model.safetensors", "metrics.csv")
        return step(module, batch, batch_idx)

    step = Classifier.training_step
    minuteloop.run([*OPTIONS, "hydra.run.dir=reference"])
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", fill_up)
        with pytest.raises(OSError, match=r"mine/metrics\.csv"):
            minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])
    assert_nothing_claims_success(cwd / "mine")
    record = json.loads((cwd / "mine/result.json").read_text())
    assert record["plan"]["steps"] == 60 and "killed" in record["error"]
    assert (cwd / "mine/log.txt").read_text().count(
        "warning: [Errno 28] No space left on device: 'mine/last.ckpt'"
    ) == 1
    assert minuteloop.run([*OPTIONS, "resume=mine"])["status"] == "finished"
    assert "continuing after step 40" in (cwd / "mine/log.txt").read_text()
    assert_same_training(cwd / "mine", cwd / "reference")


def test_checkpoint_that_cannot_be_written_costs_a_warning_only(cwd, monkeypatch, always_saving):
    fill(monkeypatch, "last.ckpt")
    assert minuteloop.run([*OPTIONS, "hydra.run.dir=mine"])["status"] == "finished"
    assert (cwd / "mine/log.txt").read_text().count("training continues without a new checkpoint") == 1


@pytest.mark.exhaustive
def test_full_disk_on_the_command_line_is_one_line_and_exit_code_1(tmp_path):
    limit = 50_000  # bytes per file; the weights take more
    done = subprocess.run(
        [*TRAIN, *OPTIONS, "budget=3steps", "hydra.run.dir=mine"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1 and "finished" not in done.stdout
    assert done.stderr == f"error: [Errno 27] File too large: '{tmp_path}/mine/model.safetensors'\n"
    assert_nothing_claims_success(tmp_path / "mine")
    assert "model.safetensors" in json.loads((tmp_path / "mine/result.json").read_text())["error"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 kB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("free", [0, 4096, 16384, 90_112])  # bytes
def test_run_on_a_full_file_system_fails_and_resumes_after_cleanup(tiny_disk, free):
    (tiny_disk / "ballast").write_bytes(bytes(256 * 1024 - free))
    with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device: '.*disk.*'"):
        minuteloop.run([*OPTIONS, "budget=5steps", f"hydra.run.dir={tiny_disk}/mine"])
    assert_nothing_claims_success(tiny_disk / "mine")
    (tiny_disk / "ballast").unlink()
    assert (
        minuteloop.run([*OPTIONS, "budget=5steps", f"hydra.run.dir={tiny_disk}/mine", "resume=true"])["status"]
        == "finished"
    )


def test_file_system_that_turns_read_only_fails_the_run(tiny_disk, monkeypatch):
    def turn_read_only(module, batch, batch_idx):
        if module.global_step == 40:
            subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
        return step(module, batch, batch_idx)

    step = Classifier.training_step
    monkeypatch.setattr(checkpoint, "EVERY", 1e9)  # the warning of a checkpoint that fails goes to the same disk
    monkeypatch.setattr(Classifier, "training_step", turn_read_only)
    with pytest.raises(OSError, match=r"Read-only file system: '.*/mine/metrics\.csv'"):
        minuteloop.run([*OPTIONS, f"hydra.run.dir={tiny_disk}/mine"])
    assert_nothing_claims_success(tiny_disk / "mine")
