"""A run from config to record, on the embedded sample."""

import csv
import json
import os
import signal
import subprocess
import time
import types
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_run import TRAIN

import minuteloop
from minuteloop import cli
from minuteloop.config.compose import compose
from minuteloop.records.record import config_hash
from minuteloop.training import calibrate, pictures, trainer
from minuteloop.training.run import train
from minuteloop.validation import ConfigError

QUICK = [
    "data=sample",
    "logger=none",
    "logger.pictures=false",
    "size.reduce=32",
    "recipe.batch_size=64",
    "threads=1",
    "evaluations=2",
]
SMALLEST = ["arch=resnet18", "size.depth=0.1", "size.width=0.125"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def only_folder(root: Path) -> Path:
    """Return the folder of the one run below runs/."""
    (result,) = root.glob("runs/*/*/result.json")
    return result.parent


def test_finished_run_leaves_record_config_curves_log_and_weights(cwd):
    record = minuteloop.run([*QUICK, "budget=120steps", "recipe.lr=4e-3"])
    folder = only_folder(cwd)
    assert Path(record.pop("folder")) == folder.resolve()
    assert json.loads((folder / "result.json").read_text()) == record
    assert record["schema"] == 1 and record["status"] == "finished" and record["error"] is None
    assert record["steps"] == record["plan"]["steps"] == 120 and record["plan"]["lr"] == 4e-3
    assert record["overrides"] == [*QUICK, "budget=120steps", "recipe.lr=4e-3"]
    assert record["config"]["device"] in ("cpu", "cuda") and record["asked"]["device"] == "auto"
    assert record["config"]["recipe"]["weight_decay"] == record["plan"]["weight_decay"] == 0.05
    assert record["asked"]["recipe.weight_decay"] == "auto"
    assert yaml.safe_load((folder / "config.yaml").read_text()) == record["config"]
    assert record["metrics"]["test/acc"] > 0.16, "chance is 0.1"
    assert set(record["metrics"]) == {"val/acc", "val/loss", "test/acc", "test/loss"}
    seconds = record["seconds"]
    assert sum(seconds[stage] for stage in seconds if stage != "total") == pytest.approx(seconds["total"], rel=1e-6)
    assert record["cost"]["images_per_second"] == pytest.approx(120 * 64 / seconds["train"])
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["step"] for row in rows if row["train/loss"]] == [str(step) for step in range(6, 121, 6)]
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


def test_short_run_has_a_point_of_the_curves_at_every_step(cwd):
    minuteloop.run([*QUICK, *SMALLEST, "recipe=plain", "budget=32steps", "hydra.run.dir=mine"])
    rows = [row for row in csv.DictReader((cwd / "mine/metrics.csv").open()) if row["train/loss"]]
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 33)] and all(row["lr"] for row in rows)


@pytest.mark.exhaustive
def test_process_that_was_stopped_for_longer_than_its_budget_finishes_its_run(tmp_path):
    command = [*TRAIN, *QUICK, *SMALLEST, "recipe=plain", "budget=6s", "hydra.run.dir=mine"]
    log = tmp_path / "mine/log.txt"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        while not (log.exists() and " left" in log.read_text()):  # the first evaluation's line
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(14)
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(timeout=120) == 0
    record = json.loads((tmp_path / "mine/result.json").read_text())
    assert record["status"] == "finished" and record["steps"] == record["plan"]["steps"]
    assert 13 < record["seconds"]["paused"] < 15 and record["seconds"]["train"] < 12
    assert "warning: the process was paused for 1" in log.read_text()


@pytest.mark.parametrize("recipe", ["plain", pytest.param("deit", marks=pytest.mark.exhaustive)])
def test_timed_run_repeats_bit_for_bit_by_its_steps(cwd, recipe):
    options = [*QUICK, *SMALLEST, f"recipe={recipe}", "recipe.strength=0.5"]
    timed = minuteloop.run([*options, "budget=1s", "hydra.run.dir=timed"])
    minuteloop.run([*options, f"budget={timed['plan']['steps']}steps", "hydra.run.dir=again"])
    first, second = weights(cwd / "timed"), weights(cwd / "again")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert timed["seconds"]["calibrate"] > 0
    assert timed["config_hash"] != json.loads((cwd / "again/result.json").read_text())["config_hash"]


def test_seed_changes_the_weights(cwd):
    for seed in (0, 1):
        minuteloop.run([*QUICK, *SMALLEST, "budget=2steps", f"seed={seed}", f"hydra.run.dir=seed{seed}"])
    first, second = weights(cwd / "seed0"), weights(cwd / "seed1")
    assert not torch.equal(first["head.linear.weight"], second["head.linear.weight"])


def test_holdout_zero_trains_on_all_images_and_reports_the_test_set_only(cwd):
    record = minuteloop.run([*QUICK, *SMALLEST, "budget=2ep", "data.holdout=0"])
    assert record["plan"]["steps"] == 2 * (2000 // 64) and record["plan"]["epochs"] <= 2
    assert set(record["metrics"]) == {"test/acc", "test/loss"}


def test_run_does_not_read_the_test_set_unless_it_is_to(cwd, monkeypatch):
    """A run by hand reads it; a cell of a sweep has its validation split, if it has one."""
    monkeypatch.setattr(
        pictures, "draw", lambda record, *, evaluated, **_: drawn.append((evaluated.split, len(evaluated.labels)))
    )
    (cwd / "sweep").mkdir()
    options, drawn = [*SMALLEST, "size.reduce=32", "data=sample", "logger=none", "budget=1steps", "evaluations=1"], []

    def splits(*overrides, sweep=None):
        config = minuteloop.compose([*options, *overrides])
        record = train(config, cwd / f"run{len(drawn)}", sweep=sweep)
        assert record["config"]["test"] is ("test/acc" in record["metrics"])
        return {name.partition("/")[0] for name in record["metrics"]}

    assert splits() == splits("test=true", sweep=cwd / "sweep") == {"val", "test"}
    assert splits("test=false") == splits(sweep=cwd / "sweep") == {"val"}
    assert splits("data.holdout=0") == splits("data.holdout=0", sweep=cwd / "sweep") == {"test"}
    validation = ("validation", minuteloop.compose(options).data.holdout)
    assert drawn == [("test", 1000)] * 2 + [validation] * 2 + [("test", 1000)] * 2


def test_run_that_takes_twice_its_budget_is_stopped_with_status_overrun(cwd, monkeypatch):
    rate = types.SimpleNamespace(steps_per_second=2000.0, first_seconds=0.0, is_slow=False)
    monkeypatch.setattr(calibrate, "measure_rate", lambda *_: rate)
    record = minuteloop.run([*QUICK, "budget=0.5s"])
    assert record["plan"]["steps"] == 1000 and record["status"] == "overrun"
    assert 1.0 < record["seconds"]["train"] < 3.0 and "test/acc" in record["metrics"]
    pace = record["pace"]
    assert pace["steps_per_second_planned"] == 2000
    assert pace["steps_per_second"] == pytest.approx(record["steps"] / record["seconds"]["train"])
    assert pace["slowdown"] == pytest.approx(2000 / pace["steps_per_second"]) and pace["cores_of_others"] >= 0
    text = (Path(record["folder"]) / "log.txt").read_text()
    assert f"warning: training took {record['seconds']['train']:.1f} s of its 0.5 s for {record['steps']:,} of" in text


def test_command_of_a_run_that_was_stopped_exits_with_a_code_of_its_own(cwd, monkeypatch):
    rate = types.SimpleNamespace(steps_per_second=20_000.0, first_seconds=0.0, is_slow=False)
    monkeypatch.setattr(calibrate, "measure_rate", lambda *_: rate)
    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(SystemExit) as stopped:
        cli.train([*QUICK, *SMALLEST, "budget=0.1s", "hydra.run.dir=mine"])
    record = json.loads((cwd / "mine/result.json").read_text())
    assert stopped.value.code == 3 and record["status"] == "overrun" and record["metrics"]["test/acc"] > 0


def test_loss_that_is_not_finite_fails_the_run_and_names_the_steps(cwd):
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) in steps 1 to 50; lower recipe\.lr"):
        minuteloop.run([*QUICK, *SMALLEST, "budget=1000steps", "recipe=plain", "recipe.lr=1e6", "evaluations=1"])
    record = json.loads((only_folder(cwd) / "result.json").read_text())
    assert record["status"] == "failed" and "steps 1 to 50" in record["error"]


def test_loss_that_is_not_finite_fails_a_short_run_at_the_step(cwd):
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) in step [2-9]; lower recipe\.lr"):
        minuteloop.run([*QUICK, *SMALLEST, "budget=20steps", "recipe.lr=1e5", "hydra.run.dir=mine"])
    record = json.loads((cwd / "mine/result.json").read_text())
    assert record["status"] == "failed" and "in step " in record["error"]


def test_evaluation_that_is_not_finite_fails_the_run_and_names_the_step(cwd, monkeypatch):
    """Before the training loss is logged, every 50 steps of 1,000."""

    def ruin(module, *_):
        if module.global_step == 11:
            module.net.head.linear.weight.data.fill_(float("nan"))

    monkeypatch.setattr("minuteloop.training.classifier.Classifier.on_train_batch_end", ruin)
    options = ["recipe=plain", "budget=1000steps", "evaluations=90", "hydra.run.dir=mine"]
    with pytest.raises(FloatingPointError, match=r"val/loss is nan after step 12; lower recipe\.lr"):
        minuteloop.run([*QUICK, *SMALLEST, *options])
    record = json.loads((cwd / "mine/result.json").read_text())
    assert record["status"] == "failed" and record["error"].endswith("val/loss is nan after step 12; lower recipe.lr")
    assert record["seconds"]["eval"] > 0


def test_loss_that_is_not_finite_in_the_last_steps_fails_the_run_too(cwd):
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) in step [2-6]; lower"):
        minuteloop.run([*QUICK, "budget=6steps", "recipe=plain", "recipe.lr=1e6", "hydra.run.dir=mine"])
    record = json.loads((cwd / "mine/result.json").read_text())
    assert record["status"] == "failed" and "in step " in record["error"] and record["seconds"]["train"] > 0
    assert not (cwd / "mine/model.safetensors").exists()


def test_weights_that_the_last_step_ruined_fail_the_run(cwd, monkeypatch):
    def ruin(module):
        module.net.head.linear.weight.data.fill_(float("nan"))

    monkeypatch.setattr("minuteloop.training.classifier.Classifier.on_train_end", ruin)
    with pytest.raises(FloatingPointError, match=r"val/loss is nan after the last step; lower recipe\.lr"):
        minuteloop.run([*QUICK, *SMALLEST, "budget=2steps", "hydra.run.dir=mine"])
    text = (cwd / "mine/result.json").read_text()
    assert "NaN" not in text and json.loads(text)["metrics"]["val/loss"] is None, "JSON has no NaN"
    assert json.loads(text)["status"] == "failed"


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_gradients_are_clipped_in_every_precision(cwd, precision):
    options = [*QUICK, "recipe=plain", "recipe.weight_decay=0", "arch=resnet18", f"precision={precision}"]
    minuteloop.run([*options, "recipe.lr=0", "budget=1steps", "hydra.run.dir=still"])
    minuteloop.run([*options, "budget=3steps", "hydra.run.dir=free"])
    minuteloop.run([*options, "recipe.clip_grad=1e-6", "budget=3steps", "hydra.run.dir=clipped"])
    start, free, clipped = (weights(cwd / name)["head.linear.weight"] for name in ("still", "free", "clipped"))
    assert (free - start).norm() > 1e-3 > 3e-6 > (clipped - start).norm() > 0


def test_folder_with_a_record_is_not_overwritten(cwd):
    minuteloop.run([*QUICK, *SMALLEST, "budget=1steps", "hydra.run.dir=mine"])
    before = (cwd / "mine/result.json").read_text()
    with pytest.raises(ConfigError, match=r"hydra\.run\.dir=mine: holds the record"):
        minuteloop.run([*QUICK, *SMALLEST, "budget=2steps", "hydra.run.dir=mine"])
    assert (cwd / "mine/result.json").read_text() == before


def test_error_inside_a_run_is_recorded_and_raised(cwd, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the device is on fire\nand more")

    monkeypatch.setattr(trainer, "make_trainer", fail)
    with pytest.raises(RuntimeError, match="on fire"):
        minuteloop.run([*QUICK, "budget=2steps"])
    record = json.loads((only_folder(cwd) / "result.json").read_text())
    assert record["status"] == "failed" and record["error"] == "RuntimeError: the device is on fire"


def test_plan_is_on_disk_before_the_first_step_with_status_failed(cwd, monkeypatch):
    seen = {}

    def interrupt(*_, **__):
        seen.update(json.loads((only_folder(cwd) / "result.json").read_text()))
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trainer, "make_trainer", interrupt)
    with pytest.raises(SystemExit):
        minuteloop.run([*QUICK, "budget=2steps"])
    assert json.loads((only_folder(cwd) / "result.json").read_text())["status"] == "interrupted"
    assert seen["plan"]["steps"] == 2 and seen["status"] == "failed" and "killed" in seen["error"]


def test_config_hash_ignores_logger_name_and_folders_but_not_the_seed():
    def hash_of(*overrides):
        return config_hash(compose([*QUICK, *overrides]))

    assert hash_of() == hash_of("logger=wandb", "name=other", "data.root=/elsewhere")
    assert hash_of() != hash_of("seed=1")
    assert hash_of() != hash_of("recipe.lr=1e-3")


@pytest.mark.exhaustive
def test_compile_seconds_are_not_training_seconds(cwd):
    record = minuteloop.run([*QUICK, *SMALLEST, "budget=3steps", "compile=true", "recipe=plain"])
    assert record["status"] == "finished" and record["config"]["compile"] is True
    assert record["seconds"]["compile"] > record["seconds"]["train"]


def test_folder_that_cannot_be_made_is_a_config_error(cwd):
    (cwd / "runs").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match=r"^hydra\.run\.dir=runs/.*: must be a folder that can be made, got: "):
        minuteloop.run([*QUICK, "budget=1steps"])


def test_config_error_inside_a_run_is_one_line_on_stderr(cwd, monkeypatch, capsys):
    def reject(*_):
        raise ConfigError("device=cuda: no such device")

    monkeypatch.setattr("minuteloop.hardware.resolve_auto", reject)
    with pytest.raises(SystemExit) as stopped:
        cli.train([*QUICK, "hydra.run.dir=mine"])
    assert stopped.value.code == 2 and capsys.readouterr().err == "error: device=cuda: no such device\n"


def test_closed_terminal_does_not_end_the_run(tmp_path):
    command = [*TRAIN, *QUICK, *SMALLEST, "budget=5steps", "hydra.run.dir=mine"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.close()
        process.wait(timeout=120)
    assert json.loads((tmp_path / "mine/result.json").read_text())["status"] == "finished"


def test_train_takes_a_composed_config_and_a_folder_and_warns_of_rerun_outside_of_a_sweep(cwd):
    line = "warning: rerun=true changes nothing: a single run always trains"
    for name, sweep in (("mine", None), ("cell", cwd)):
        record = train(compose([*QUICK, *SMALLEST, "budget=1steps", "rerun=true"]), cwd / name, sweep=sweep)
        assert record["status"] == "finished" and (cwd / name / "result.json").exists()
        assert (line in (cwd / name / "log.txt").read_text()) is (sweep is None)


@pytest.mark.gpu
def test_run_on_a_gpu_keeps_its_budget(cwd):
    record = minuteloop.run([*QUICK, "device=cuda", "budget=5s", "arch=convnext"])
    assert record["status"] == "finished" and record["host"]["gpu"]
    assert abs(record["seconds"]["train"] - 5) < 0.5
