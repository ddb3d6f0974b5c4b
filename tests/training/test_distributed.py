"""Distributed training in a user's own Trainer: several processes on a CPU train as one does."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys
import pytorch_lightning as pl
import torch
from minuteloop import build, compose

processes, file, *overrides = sys.argv[1:]
parts = build(compose(overrides))
plan = parts.plan()
module = parts.classifier(plan)
trainer = pl.Trainer(
    accelerator="cpu", devices=int(processes), strategy="ddp_fork" if int(processes) > 1 else "auto",
    max_steps=plan.steps, max_epochs=-1, gradient_clip_val=1.0, val_check_interval=3, check_val_every_n_epoch=None,
    logger=False, enable_checkpointing=False, enable_progress_bar=False,
)
trainer.fit(module, parts.data)
metrics = {name: trainer.callback_metrics[name] for name in ("val/acc", "val/loss")}
torch.save({"weights": module.state_dict(), "metrics": metrics}, file)
"""
# layer norm, so that no statistic is one of a batch; every draw but drop path, which each process makes for itself
OVERRIDES = ["arch=convnext", "size=nano", "size.reduce=32", "recipe=deit", "recipe.strength=1", "data=sample"]
OVERRIDES += ["~recipe.regularizers.drop_path", "recipe.batch_size=64", "data.holdout=401", "budget=9steps"]


def trained(processes: int, file: Path) -> dict:
    """Return what a number of processes train: the module's state and its metrics."""
    command = [sys.executable, "-c", SCRIPT, str(processes), str(file), *OVERRIDES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return torch.load(file, weights_only=True)


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> dict:
    """What one process trains."""
    return trained(1, tmp_path_factory.mktemp("single") / "state.pt")


@pytest.mark.exhaustive
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_train_as_one_at_the_same_batch_size(processes, single, tmp_path):
    result = trained(processes, tmp_path / "state.pt")
    differences = {
        name: (tensor - single["weights"][name]).norm() / single["weights"][name].norm().clamp_min(1e-12)
        for name, tensor in result["weights"].items()
    }
    largest = max(differences.values()).item()
    assert largest <= (0 if processes == 1 else 1e-4), differences
    for name, value in result["metrics"].items():  # every process evaluates all images
        torch.testing.assert_close(value, single["metrics"][name], rtol=1e-5, atol=0)
    print(f"{processes} processes: largest relative difference {largest:.1e}")
