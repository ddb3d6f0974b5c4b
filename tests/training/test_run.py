"""A run from config to record: on the embedded sample, so that it needs nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import minuteloop
from minuteloop import cli as command
from minuteloop.config.compose import compose
from minuteloop.training.run import train

ROOT = Path(__file__).parents[2]
RUN = sys.modules["minuteloop.training.run"]  # the attribute of this name is the function
QUICK = [
    "data=sample",
    "logger=none",
    "logger.pictures=false",
    "size.reduce=32",
    "recipe.batch_size=64",
    "threads=1",
    "evaluations=2",
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(record_folder):
    return load_file(record_folder / "model.safetensors")


def folder_of(root: Path) -> Path:
    (result,) = root.glob("runs/*/*/result.json")
    return result.parent


def test_a_run_leaves_its_record(here):
    record = minuteloop.run([*QUICK, "budget=120steps", "recipe.lr=4e-3"])
    folder = folder_of(here)
    assert Path(record.pop("folder")) == folder.resolve()
    assert json.loads((folder / "result.json").read_text()) == record
    assert record["schema"] == 1 and record["status"] == "finished" and record["error"] is None
    assert record["steps"] == record["plan"]["steps"] == 120 and record["plan"]["lr"] == 4e-3
    assert record["config"]["device"] in ("cpu", "cuda") and record["asked"]["device"] == "auto"
    assert yaml.safe_load((folder / "config.yaml").read_text()) == record["config"]
    assert record["metrics"]["test/acc"] > 0.16, "chance is 0.1"
    assert set(record["metrics"]) == {"val/acc", "val/loss", "test/acc", "test/loss"}
    seconds = record["seconds"]
    assert sum(seconds[phase] for phase in seconds if phase != "total") == pytest.approx(seconds["total"], rel=1e-6)
    assert record["cost"]["images_per_second"] == pytest.approx(120 * 64 / seconds["train"])
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["step"] for row in rows if row["train/loss"]] == ["50", "100"]
    assert [row["step"] for row in rows if row["val/acc"]] == ["61", "120"]
    losses = [float(row["val/loss"]) for row in rows if row["val/loss"]]
    assert len(losses) == 2 and losses[0] > losses[1] == pytest.approx(record["metrics"]["val/loss"], rel=1e-4)
    assert "120 steps of 64" in (folder / "log.txt").read_text()
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.yaml",
        "log.txt",
        "metrics.csv",
        "model.safetensors",
        "result.json",
    ]


@pytest.mark.parametrize("recipe", ["plain", "deit"])
def test_a_timed_run_repeats_bit_for_bit_by_its_steps(here, recipe):
    options = [*QUICK, f"recipe={recipe}", "recipe.strength=0.5"]
    timed = minuteloop.run([*options, "budget=1.5s", "hydra.run.dir=timed"])
    steps = timed["plan"]["steps"]
    minuteloop.run([*options, f"budget={steps}steps", "hydra.run.dir=again"])
    first, second = weights(here / "timed"), weights(here / "again")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert timed["seconds"]["calibrate"] > 0
    assert timed["config_hash"] != json.loads((here / "again/result.json").read_text())["config_hash"]


def test_seed_changes_the_run(here):
    for seed in (0, 1):
        minuteloop.run([*QUICK, "budget=2steps", f"seed={seed}", f"hydra.run.dir=seed{seed}"])
    first, second = weights(here / "seed0"), weights(here / "seed1")
    assert not torch.equal(first["head.linear.weight"], second["head.linear.weight"])


def test_holdout_zero_trains_on_all_images_and_reports_only_the_test_set(here):
    record = minuteloop.run([*QUICK, "budget=2ep", "data.holdout=0"])
    assert record["plan"]["steps"] == 2 * (2000 // 64) and record["plan"]["epochs"] <= 2
    assert set(record["metrics"]) == {"test/acc", "test/loss"}


def test_a_run_that_takes_over_twice_its_budget_is_stopped_and_marked(here, monkeypatch):
    monkeypatch.setattr(RUN, "measure_rate", lambda *_: types.SimpleNamespace(steps_per_second=500.0))
    record = minuteloop.run([*QUICK, "budget=1s"])
    assert record["plan"]["steps"] == 500 and record["status"] == "overrun"
    assert 2.0 < record["seconds"]["train"] < 4.0 and "test/acc" in record["metrics"]


def test_a_loss_that_is_not_a_number_ends_the_run_and_says_where(here):
    with pytest.raises(FloatingPointError, match="loss is nan within steps 1 to 50"):
        minuteloop.run([*QUICK, "budget=60steps", "recipe=plain", "recipe.lr=1e6"])
    record = json.loads((folder_of(here) / "result.json").read_text())
    assert record["status"] == "failed" and "steps 1 to 50" in record["error"]


def test_a_loss_that_is_not_a_number_after_the_last_log_is_seen_too(here):
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) within steps 1 to 6"):
        minuteloop.run([*QUICK, "budget=6steps", "recipe=plain", "recipe.lr=1e6", "hydra.run.dir=mine"])
    record = json.loads((here / "mine/result.json").read_text())
    assert record["status"] == "failed" and "steps 1 to 6" in record["error"] and record["seconds"]["train"] > 0
    assert not (here / "mine/model.safetensors").exists()


def test_weights_that_the_last_step_ruined_are_not_a_finished_run(here, monkeypatch):
    def ruined(module):
        module.net.head.linear.weight.data.fill_(float("nan"))

    monkeypatch.setattr("minuteloop.training.classifier.Classifier.on_train_end", ruined)
    with pytest.raises(FloatingPointError, match="val/loss is nan after the last step"):
        minuteloop.run([*QUICK, "budget=2steps", "hydra.run.dir=mine"])
    text = (here / "mine/result.json").read_text()
    assert "NaN" not in text and json.loads(text)["metrics"]["val/loss"] is None, "JSON has no NaN"
    assert json.loads(text)["status"] == "failed"


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_gradients_are_clipped_in_every_precision(here, precision):
    options = [*QUICK, "recipe=plain", "recipe.weight_decay=0", "arch=resnet18", f"precision={precision}"]
    minuteloop.run([*options, "recipe.lr=0", "budget=1steps", "hydra.run.dir=still"])
    minuteloop.run([*options, "budget=3steps", "hydra.run.dir=free"])
    minuteloop.run([*options, "recipe.clip_grad=1e-6", "budget=3steps", "hydra.run.dir=clipped"])
    start, free, clipped = (weights(here / name)["head.linear.weight"] for name in ("still", "free", "clipped"))
    assert (free - start).norm() > 1e-3 > 3e-6 > (clipped - start).norm() > 0


def test_a_folder_that_holds_a_record_is_not_written_over(here):
    minuteloop.run([*QUICK, "budget=1steps", "hydra.run.dir=mine"])
    before = (here / "mine/result.json").read_text()
    with pytest.raises(minuteloop.schema.ConfigError, match=r"hydra\.run\.dir=mine: holds the record"):
        minuteloop.run([*QUICK, "budget=2steps", "hydra.run.dir=mine"])
    assert (here / "mine/result.json").read_text() == before


def test_an_error_inside_is_recorded_and_raised(here, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the device is on fire\nand more")

    monkeypatch.setattr(RUN, "make_trainer", broken)
    with pytest.raises(RuntimeError, match="on fire"):
        minuteloop.run([*QUICK, "budget=2steps"])
    record = json.loads((folder_of(here) / "result.json").read_text())
    assert record["status"] == "failed" and record["error"] == "RuntimeError: the device is on fire"


def test_the_plan_is_on_disk_before_the_first_step_with_a_status_that_is_true_if_the_run_dies(here, monkeypatch):
    seen = {}

    def killed(*_, **__):
        seen.update(json.loads((folder_of(here) / "result.json").read_text()))
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RUN, "make_trainer", killed)
    with pytest.raises(SystemExit):
        minuteloop.run([*QUICK, "budget=2steps"])
    assert json.loads((folder_of(here) / "result.json").read_text())["status"] == "interrupted"
    assert seen["plan"]["steps"] == 2 and seen["status"] == "failed" and "killed" in seen["error"]


def test_config_hash_ignores_logger_name_and_folders_but_not_the_seed():
    def hashed(*overrides):
        return minuteloop.records.record.config_hash(minuteloop.compose([*QUICK, *overrides]))

    assert hashed() == hashed("logger=wandb", "name=other", "data.root=/elsewhere")
    assert hashed() != hashed("seed=1")
    assert hashed() != hashed("recipe.lr=1e-3")


def test_compile_is_booked_apart(here):
    smallest = ["arch=resnet18", "size.depth=0.1", "size.width=0.125"]
    record = minuteloop.run([*QUICK, *smallest, "budget=3steps", "compile=true", "recipe=plain"])
    assert record["status"] == "finished" and record["config"]["compile"] is True
    assert record["seconds"]["compile"] > record["seconds"]["train"]


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *QUICK, "budget=1steps"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "runs" in done.stderr


def test_a_mistake_that_only_the_run_sees_is_one_line_too(here, monkeypatch, capsys):
    def refused(*_):
        raise minuteloop.schema.ConfigError("device=cuda: no such device")

    monkeypatch.setattr(RUN, "train", refused)
    monkeypatch.setattr(sys, "argv", ["train.py", *QUICK])
    with pytest.raises(SystemExit, match="error: device=cuda: no such device"):
        command.main()
    assert capsys.readouterr().err == ""


def test_a_terminal_that_goes_away_costs_no_run(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), *QUICK, "budget=5steps", "hydra.run.dir=mine"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.close()
        process.wait(timeout=120)
    assert json.loads((tmp_path / "mine/result.json").read_text())["status"] == "finished"


def test_ctrl_c_evaluates_and_saves(tmp_path):
    options = [*QUICK, "budget=100000steps", "hydra.run.dir=stopped"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        curves = tmp_path / "stopped/metrics.csv"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (curves.exists() and len(curves.read_text().splitlines()) > 1):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 130, told
    record = json.loads((tmp_path / "stopped/result.json").read_text())
    assert record["status"] == "interrupted" and "test/acc" in record["metrics"]
    assert 0 < record["steps"] < 100_000 and f"{record['steps']:,} of 100,000 steps" in told
    assert (tmp_path / "stopped/model.safetensors").exists()
    assert "interrupted: evaluating and saving" in told


def test_train_takes_a_composed_config_and_a_folder(here):
    record = train(compose([*QUICK, "budget=1steps"]), here / "mine")
    assert record["status"] == "finished" and (here / "mine/result.json").exists()


@pytest.mark.gpu
def test_a_run_on_a_gpu(here):
    record = minuteloop.run([*QUICK, "device=cuda", "budget=5s", "arch=convnext"])
    assert record["status"] == "finished" and record["host"]["gpu"]
    assert abs(record["seconds"]["train"] - 5) < 0.5
