"""One cell of a sweep: trained, reused or left alone, and what it returns to the sweeper."""

import contextlib
import functools
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import minuteloop
from minuteloop.records import environment
from minuteloop.records.record import config_hash
from minuteloop.study import earlier_records, multirun, train_cell
from minuteloop.study.cell import Cell, read_cells
from minuteloop.study.cell_process import machines_in_process, train_in_process
from minuteloop.study.design import Study
from minuteloop.training.arm_rate import ArmRate, ArmRates
from minuteloop.validation import ConfigError

QUICK = [
    "data=sample",
    "logger=none",
    "recipe=plain",
    "recipe.batch_size=64",
    "evaluations=1",
    "arch=resnet18",
    "size.depth=0.1",
    "size.width=0.125",
    "size.reduce=32",
]


HERE = {
    "hardware": "Xeon (family 6, model 143)",
    "device": "cpu",
    "threads": 2,
    "precision": "fp32",
    "torch": "2.14",
    "timm": "1.0",
}


@functools.cache
def composed(*overrides):
    """Return the config of QUICK and more overrides."""
    return minuteloop.compose([*QUICK, *overrides])


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """This machine, with one or two of its threads idle, without asking torch."""
    machines = [HERE | {"threads": 1}, HERE]
    monkeypatch.setattr(earlier_records, "machines_in_process", lambda _: machines)
    return machines


@pytest.fixture
def settings(tmp_path):
    """Return Hydra's own config as a launcher passes it to a cell."""
    folder = tmp_path / "runs/now/plain-0"
    folder.mkdir(parents=True)
    return OmegaConf.create(
        {
            "runtime": {"output_dir": str(folder), "cwd": str(Path.cwd())},
            "sweep": {"dir": str(folder.parent)},
            "job": {"num": 0},
            "overrides": {"task": ["seed=3"]},
            "sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"},
        }
    )


def test_failed_cell_raises_for_a_learning_sweeper_and_returns_none_for_the_basic_one(settings, monkeypatch):
    def reject(*_):
        raise ConfigError("seed=3: unlucky")

    monkeypatch.setattr(multirun, "checked", reject)
    assert multirun.run_task({}, settings) is None
    settings.sweeper._target_ = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
    with pytest.raises(multirun.CellFailed, match="seed=3: failed: seed=3: unlucky"):
        multirun.run_task({}, settings)


def write_finished(folder, config, /, **changed):
    """Write the record of a finished run on HERE, with `changed` keys."""
    folder.mkdir(parents=True)
    content = {
        "status": "finished",
        "config_hash": config_hash(config),
        "code": environment.describe_code(config.recipe),
        "host": {"cpu": HERE["hardware"]},
        "config": {key: HERE[key] for key in ("device", "threads", "precision")},
        "versions": {key: HERE[key] for key in ("torch", "timm")},
        "plan": {"steps": 100},
        "metrics": {"val/acc": 0.25},
        "seconds": {"train": 1.0},
        "cost": {},
    }
    for key, value in changed.items():
        content[key] = content[key] | value if isinstance(value, dict) and value else value
    (folder / "result.json").write_text(json.dumps(content))


def run_cell(settings, monkeypatch, *overrides):
    """Run a cell, and return its val/acc, the arguments with which it was trained, and its note."""
    config = composed("seed=3", *overrides)
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    started = []
    monkeypatch.setattr(train_cell, "train_in_process", lambda *args: started.append(args) or "exit code 1")
    accuracy = multirun.run_task({}, settings)
    (cell,) = read_cells(Path(settings.sweep.dir))
    return accuracy, started, cell


def test_cell_that_finished_before_is_reused_and_leaves_no_folder(settings, monkeypatch, tmp_path, capsys):
    write_finished(tmp_path / "runs/before/plain-7", composed("seed=3"))
    accuracy, started, cell = run_cell(settings, monkeypatch)
    assert accuracy == 0.25 and not started and cell.again is None
    assert not (tmp_path / "runs/now/plain-0").exists()
    assert "finished before, " in capsys.readouterr().out


AGAIN = {
    "another GPU and torch": (
        {"host": {"gpu": "NVIDIA A100"}, "config": {"device": "cuda"}, "versions": {"torch": "2.9"}},
        "the earlier record is of NVIDIA A100, torch 2.9",
    ),
    "another CPU": ({"host": {"cpu": "EPYC"}}, "the earlier record is of EPYC"),
    "more threads": ({"config": {"threads": 4}}, "the earlier record is of 4 threads"),
    "bf16": ({"config": {"precision": "bf16"}}, "the earlier record is of bf16"),
    "timm": ({"versions": {"timm": "0.9"}}, "the earlier record is of timm 0.9"),
    "no host": ({"host": {}}, "the earlier record is of an unknown machine"),
    "code": ({"code": {"hash": "other"}}, "the code has changed since"),
    "no code": ({"code": {}}, "the code has changed since"),
    "interrupted": ({"status": "interrupted"}, None),
    "overrun": ({"status": "overrun"}, None),
    "another config": ({"config_hash": "x"}, None),
}


@pytest.mark.parametrize("case", AGAIN)
def test_other_runs_are_not_reused_and_the_log_and_the_note_say_why(case, settings, monkeypatch, tmp_path, capsys):
    changed, reason = AGAIN[case]
    write_finished(tmp_path / "runs/before/plain-7", composed("seed=3"), **changed)
    accuracy, started, cell = run_cell(settings, monkeypatch)
    assert accuracy is None and cell.again == reason
    assert len(started) == 1 and started[0][0].logger.group == "now"
    assert (f"seed=3: run again: {reason}\n" in capsys.readouterr().out) == (reason is not None)


def test_record_with_as_many_threads_as_are_idle_now_is_reused(settings, monkeypatch, tmp_path):
    """Also with as many as there are, though a core is busy now: see the fixture `here`."""
    config = composed("seed=3")
    write_finished(tmp_path / "runs/before/plain-7", config, config={"threads": 1})
    assert run_cell(settings, monkeypatch)[0] == 0.25


def test_rerun_trains_again_and_says_so(settings, monkeypatch, tmp_path):
    write_finished(tmp_path / "runs/before/plain-7", composed("seed=3"))
    accuracy, started, cell = run_cell(settings, monkeypatch, "rerun=true")
    assert accuracy is None and len(started) == 1 and cell.again == "rerun=true"


def test_record_without_the_test_set_is_not_reused_where_it_is_asked_for(settings, monkeypatch, tmp_path):
    write_finished(tmp_path / "runs/before/plain-7", composed("seed=3"))
    _, started, cell = run_cell(settings, monkeypatch, "test=true")
    assert len(started) == 1 and cell.again == "the earlier run has not read the test set"


def test_cell_whose_device_is_missing_here_is_run_and_says_so_itself(settings, monkeypatch, tmp_path, here):
    write_finished(tmp_path / "runs/before/plain-7", composed("seed=3"))
    here.clear()
    _, started, cell = run_cell(settings, monkeypatch)
    assert len(started) == 1 and "device" in cell.again


def test_machines_are_asked_in_another_process():
    cpu, *_ = machines_in_process(composed("threads=1", "device=cpu", "precision=fp32"))
    assert (
        cpu["hardware"] == environment.describe_host("cpu")["cpu"] and cpu["torch"] == environment.versions()["torch"]
    )
    assert (cpu["threads"], cpu["device"], cpu["precision"]) == (1, "cpu", "fp32")
    assert torch.cuda.is_available() or machines_in_process(composed("device=cuda")) == []


def rates(sweep, *overrides):
    """Return the rates of the arm of a cell on HERE."""
    config = composed(*overrides)
    (sweep / "rates").mkdir(parents=True, exist_ok=True)
    return ArmRates(sweep, config, HERE, environment.describe_code(config.recipe)["hash"])


def test_reused_run_of_a_time_budget_sets_the_rate_of_its_arm(settings, monkeypatch, tmp_path):
    config = composed("seed=3", "budget=5s")
    write_finished(tmp_path / "runs/before/plain-7", config)
    assert run_cell(settings, monkeypatch, "budget=5s")[0] == 0.25
    with rates(tmp_path / "runs/now", "budget=5s", "seed=4").locked() as rate:
        assert rate == ArmRate(steps=100, seconds=5.0, threads=2, busy=None)


def test_run_with_other_steps_than_its_arm_is_run_again(settings, monkeypatch, tmp_path):
    config = composed("seed=3", "budget=5s")
    write_finished(tmp_path / "runs/before/plain-7", config)
    rates(tmp_path / "runs/earlier", "budget=5s", "seed=4").save(ArmRate(1018, 5.0, 2, None))
    _, started, cell = run_cell(settings, monkeypatch, "budget=5s")
    assert len(started) == 1 and cell.again == "the earlier run trained 100 steps, its arm 1,018"


def test_record_of_another_config_in_the_cells_folder_is_kept(settings, monkeypatch, tmp_path):
    config = composed()
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    started = []
    monkeypatch.setattr(train_cell, "train_in_process", lambda *args: started.append(args) or "exit code 1")
    (tmp_path / "runs/now/plain-0/result.json").write_text('{"status": "failed"}')
    multirun.run_task({}, settings)
    assert started[0][1] == tmp_path / "runs/now/plain-0-again"


@pytest.mark.parametrize(
    ("overrides", "variable", "group"),
    [
        ([], "", "now"),
        (["name=mine"], "", "now"),
        (["logger.group=mine"], "", "mine"),
        (["logger.group=mine"], "theirs", "mine"),
        ([], "theirs", None),  # W&B reads it
    ],
)
def test_wandb_group_is_the_sweeps_unless_the_user_gives_one(settings, monkeypatch, overrides, variable, group):
    monkeypatch.setenv("WANDB_RUN_GROUP", variable)
    config = composed(*overrides)
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    started = []
    monkeypatch.setattr(train_cell, "train_in_process", lambda *args: started.append(args) or "exit code 1")
    multirun.run_task({}, settings)
    assert started[0][0].logger.group == group


STUDY = Study("mine", "", "small", {"small": ["seed=3"], "big": ["size=tiny"]}, "arms", None, [3], ["1s"])
NO_VARIABLES = {"WANDB_RUN_GROUP": "", "WANDB_JOB_TYPE": "", "WANDB_TAGS": ""}


@pytest.mark.parametrize(
    ("overrides", "variables", "expected"),
    [
        ([], {}, ("mine", "study", ["mine", "small"])),
        (["logger.group=g", "logger.job_type=j", "logger.tags=[t]"], {}, ("g", "j", ["t", "mine", "small"])),
        # W&B reads group and job type itself; tags of a config would replace those of the variable
        (
            [],
            {"WANDB_RUN_GROUP": "g", "WANDB_JOB_TYPE": "j", "WANDB_TAGS": "t,u"},
            (None, None, ["t", "u", "mine", "small"]),
        ),
    ],
)
def test_wandb_runs_of_a_study_share_group_job_type_and_tag(settings, monkeypatch, overrides, variables, expected):
    for variable, value in (NO_VARIABLES | variables).items():
        monkeypatch.setenv(variable, value)
    STUDY.save(Path(settings.sweep.dir))
    _, started, _ = run_cell(settings, monkeypatch, *overrides)
    logger = started[0][0].logger
    assert (logger.group, logger.job_type, logger.tags) == expected


def test_overrides_of_a_cell_are_handed_to_its_record(settings, monkeypatch):
    settings.overrides.task = ["modernization=[gelu]", "name=${arch.name}", "seed=3"]
    _, started, cell = run_cell(settings, monkeypatch)
    assert started[0][4] == cell.overrides == ["modernization=[gelu]", "name=${arch.name}", "seed=3"]


def test_wandb_group_of_a_sweep_in_the_current_folder_has_its_name(settings, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    monkeypatch.chdir(settings.sweep.dir)
    config = minuteloop.compose(QUICK)
    started = []
    monkeypatch.setattr(train_cell, "train_in_process", lambda *args: started.append(args) or "exit code 1")
    cell = Cell(0, [], tmp_path / "runs/now/plain-0")
    train_cell.train_or_reuse(cell, config, Path("."), Path("stop"), contextlib.nullcontext())
    assert started[0][0].logger.group == "now"


def test_ctrl_c_reaches_a_cell_that_is_just_starting_in_a_worker(tmp_path):
    (tmp_path / "stop").touch()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = composed("budget=100000steps")
        ended = train_in_process(config, tmp_path / "cell", tmp_path, tmp_path / "stop", [])
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == "exit code 130"


def test_records_are_searched_in_runs_and_in_sweeps_only(settings, monkeypatch, tmp_path):
    """A sweep's folder may lie in the home folder, beside data sets and other projects."""
    config = composed("seed=3")
    for folder in ("home/data/before", "home/other/cells/before", "runs/deep/er/plain-7", "runs/plain-7"):
        write_finished(tmp_path / folder, config)
    settings.sweep.dir = str(tmp_path / "home/mysweep")
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(str(path)) or scandir(path))
    assert run_cell(settings, monkeypatch)[0] is None
    assert str(tmp_path / "home/data") not in listed
    settings.sweep.dir = str(tmp_path / "runs/now")
    assert run_cell(settings, monkeypatch)[0] is None
    for parent, folder in (("home", "home/before/plain-7"), ("runs", "runs/plain/before")):
        write_finished(tmp_path / folder, config)
        (tmp_path / "home/before/cells").mkdir(parents=True, exist_ok=True)
        settings.sweep.dir = str(tmp_path / parent / "now")
        assert run_cell(settings, monkeypatch)[0] == 0.25


@pytest.mark.parametrize(("statuses", "code"), [(["finished"] * 2, 0), (["finished", "overrun"], 1)])
def test_sweep_with_a_cell_that_was_stopped_at_twice_its_budget_has_not_finished(
    tmp_path, monkeypatch, capsys, statuses, code
):
    config = minuteloop.compose(QUICK)
    for number, status in enumerate(statuses):
        folder = tmp_path / f"plain-{number}"
        write_finished(folder, config, status=status, error=None)
        multirun.Cell(number, [f"seed={number}"], folder).save(tmp_path)
    monkeypatch.setattr(multirun.Sweep, "folder", tmp_path)
    assert multirun.end(lambda folder: f"the report of {folder.name}") == code
    assert f"the report of {tmp_path.name}\n" in capsys.readouterr().out


def test_cells_of_a_task_train_one_after_the_other_under_their_own_numbers(settings, monkeypatch, tmp_path):
    settings.merge_with(
        {
            "job": {"num": 1, "config_name": "config"},
            "sweeper": {"cells_per_task": 3},
            "overrides": {"task": ["seed=3", "+cells=[...]"]},
            "runtime": {"config_sources": [{"provider": "command-line", "path": "mine"}]},
        }
    )
    read = []
    monkeypatch.setattr(multirun, "compose", lambda *words: read.append(words) or composed(*words[0]))
    monkeypatch.setattr(train_cell, "train_in_process", lambda *args: "exit code 1")
    multirun.run_task({"cells": OmegaConf.create([["seed=4"], ["seed=5"]])}, settings)
    assert read == [([f"seed={seed}"], "config", "mine") for seed in (3, 4, 5)]
    sweep = Path(settings.sweep.dir)
    assert [(cell.number, cell.overrides) for cell in read_cells(sweep)] == [
        (number, [f"seed={number}"]) for number in (3, 4, 5)
    ]
    assert [cell.folder.name for cell in read_cells(sweep)] == ["cell-3", "cell-4", "cell-5"]
