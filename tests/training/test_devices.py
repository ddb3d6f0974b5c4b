"""devices=2: the run's processes train as one does, on a CPU."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from command_line import TRAIN, descendants, run_script
from safetensors.torch import load_file

from minuteloop import compose
from minuteloop.records.record import config_hash
from minuteloop.validation import ConfigError

# layer norm, so that no statistic is one of a batch; no drop path, which each process draws for itself
NET = ["arch=convnext", "size=nano", "size.reduce=32", "recipe=deit", "recipe.strength=1", "data=sample", "device=cpu"]
NET += ["~recipe.regularizers.drop_path", "recipe.batch_size=64", "precision=fp32", "threads=1"]
NET += ["logger=none", "logger.pictures=false", "evaluations=2"]


def trained(tmp_path, name, *overrides):
    """Train on the command line; return the record and the weights."""
    done = run_script(TRAIN, *NET, *overrides, f"hydra.run.dir={name}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((tmp_path / name / "result.json").read_text()), load_file(tmp_path / name / "model.safetensors")


@pytest.mark.exhaustive
@pytest.mark.parametrize("devices", [2, 4])
def test_several_devices_train_as_one_does_at_the_same_batch_size(tmp_path, devices):
    (one, weights), (several, others) = (
        trained(tmp_path, str(count), "budget=20steps", f"devices={count}") for count in (1, devices)
    )
    for name, tensor in weights.items():
        assert (others[name] - tensor).norm() <= 1e-4 * tensor.norm().clamp_min(1e-8), name
    assert several["metrics"] == pytest.approx(one["metrics"], rel=1e-4)
    assert several["steps"] == 20 and set(several["metrics"]) >= {"val/acc", "val/loss", "test/acc"}
    curves = [(tmp_path / name / "metrics.csv").read_text().count("\n") for name in ("1", str(devices))]
    assert curves[0] == curves[1]


@pytest.mark.exhaustive
def test_layers_freeze_in_all_processes(tmp_path):
    """The stem's bias of airbench has no gradient from 0.375 of the run on."""
    fast = ["arch=airbench", "size=nano", "recipe=airbench94", "recipe.batch_size=64", "data=sample", "device=cpu"]
    fast += ["logger=none", "logger.pictures=false", "threads=1", "devices=2", "budget=8steps", "hydra.run.dir=fast"]
    done = run_script(TRAIN, *fast, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.exhaustive
def test_loss_that_is_not_finite_is_one_line(tmp_path):
    large = ["recipe=plain", "recipe.lr=10000", "recipe.clip_grad=null"]
    plain = [word for word in NET if "recipe" not in word]
    done = run_script(TRAIN, *plain, *large, "recipe.batch_size=64", "devices=2", "budget=40steps", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.fullmatch(r"error: training loss is nan in steps \d+ to \d+; lower recipe\.lr\n", done.stderr), (
        done.stderr
    )


@pytest.mark.exhaustive
def test_time_budget_is_measured_and_kept_together(tmp_path):
    record, _ = trained(tmp_path, "timed", "budget=5s", "devices=2")
    assert record["status"] == "finished" and record["steps"] == record["plan"]["steps"] > 3
    assert 2.5 < record["seconds"]["train"] < 10


@pytest.mark.exhaustive
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_ends_all_processes_and_resumes(tmp_path, signum):
    expected, weights = trained(tmp_path, "whole", "budget=150steps", "devices=2")
    curve = tmp_path / "part/metrics.csv"
    command = [sys.executable, TRAIN, *NET, "budget=150steps", "devices=2", "hydra.run.dir=part", "resume=true"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        while run.poll() is None and not (curve.exists() and curve.read_text().count("\n") > 1):
            time.sleep(0.1)
        for process in [run.pid, *descendants(run.pid)]:  # as the terminal and Slurm do
            os.kill(process, signum)
        output, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + signum, output
    record = json.loads((tmp_path / "part/result.json").read_text())
    assert record["status"] == "interrupted" and (tmp_path / "part/last.ckpt").exists(), output
    resumed, others = trained(tmp_path, "part", "budget=150steps", "devices=2", "resume=true")
    assert resumed["attempts"] == 2 and resumed["metrics"] == expected["metrics"]
    assert all(weights[name].equal(tensor) for name, tensor in others.items())


def test_devices_must_divide_the_batch():
    with pytest.raises(ConfigError, match=r"^devices=3: must divide recipe\.batch_size=64$"):
        compose([*NET, "devices=3"])


def test_one_device_has_the_hash_that_records_had_before_the_key():
    config = compose(NET)
    assert config_hash(config) == config_hash(dataclasses.replace(config, devices=1))
    assert config_hash(config) != config_hash(dataclasses.replace(config, devices=2))
