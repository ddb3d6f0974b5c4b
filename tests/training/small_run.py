"""A run of a second with all that a checkpoint must hold, ways to interrupt it, and how its folder is compared."""

import csv
import json
import os
import signal
import sys
from pathlib import Path

import pytest

import minuteloop
from minuteloop.training.classifier import Classifier

TRAIN = [sys.executable, str(Path(__file__).parents[2] / "train.py")]
# 20 steps an epoch; evaluated after step 31, logged every 3 steps; EMA, mixing, drop path and batch norm's statistics
SMALL = [
    "data=sample",
    "data.holdout=1360",
    "recipe.batch_size=32",
    "recipe.strength=0.5",
    "evaluations=2",
    "threads=1",
    "logger=none",
    "logger.pictures=false",
    "arch=resnet18",
    "size.reduce=32",
    "size.depth=0.1",
    "size.width=0.0625",
]
STEPS = 60
OPTIONS = [*SMALL, f"budget={STEPS}steps", "test=true"]

training_step = Classifier.training_step


def read(folder: Path) -> dict:
    """Return the record in a folder."""
    return json.loads((folder / "result.json").read_text())


def repeatable(folder: Path) -> dict:
    """Return a record without times, rates, memory and attempts."""
    content = read(folder)
    del content["seconds"], content["attempts"], content["pace"], content["date"]
    del content["cost"]["images_per_second"], content["cost"]["peak_memory_bytes"]
    return content


def curves(folder: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv without their times."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: text for key, text in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def curve_seconds(folder: Path) -> list[tuple[int, float]]:
    """Return the columns `step` and `seconds` of metrics.csv."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [(int(row["step"]), float(row["seconds"])) for row in csv.DictReader(file)]


def assert_same_training(folder: Path, reference: Path) -> None:
    """Assert that two runs left equal weights and curves."""
    assert (folder / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    assert curves(folder) == curves(reference)


def assert_same_run(folder: Path, reference: Path) -> None:
    """Assert that two runs left equal weights, curves, configs and records, and no other files."""
    assert_same_training(folder, reference)
    assert (folder / "config.yaml").read_bytes() == (reference / "config.yaml").read_bytes()
    assert repeatable(folder) == repeatable(reference)
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in reference.iterdir())


def signal_in_step(monkeypatch, signum: int, step: int) -> None:
    """Send this process a signal in step `step` (from 1 on) of training."""

    def training_step_with_signal(module, batch, batch_idx):
        if module.global_step + 1 == step:
            os.kill(os.getpid(), signum)
        return training_step(module, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", training_step_with_signal)


def stop(monkeypatch, *overrides: str, step: int = 25, signum: int = signal.SIGTERM) -> None:
    """Start a run that a signal ends in step `step`."""
    before = signal.getsignal(signal.SIGCONT)
    with monkeypatch.context() as patch:
        signal_in_step(patch, signum, step)
        with pytest.raises(SystemExit) as stopped:
            minuteloop.run([*OPTIONS, *overrides])
    assert stopped.value.code == 128 + signum and signal.getsignal(signal.SIGCONT) == before
