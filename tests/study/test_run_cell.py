"""One cell of a sweep: trained, reused or left alone, and what it returns to the sweeper."""

import json
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import minuteloop
from minuteloop.records import environment
from minuteloop.records.record import config_hash
from minuteloop.study import multirun
from minuteloop.study.cell import Cell
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


@pytest.fixture
def settings(tmp_path):
    """Return Hydra's own config as a launcher passes it to a cell."""
    folder = tmp_path / "runs/now/plain-0"
    folder.mkdir(parents=True)
    return OmegaConf.create(
        {
            "runtime": {"output_dir": str(folder)},
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
    assert multirun.run_cell(None, settings) is None
    settings.sweeper._target_ = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
    with pytest.raises(multirun.CellFailed, match="seed=3: failed: seed=3: unlucky"):
        multirun.run_cell(None, settings)


def write_finished(folder, config, **changed):
    """Write the record of a finished run, with `changed` keys."""
    folder.mkdir(parents=True)
    content = {
        "status": "finished",
        "config_hash": config_hash(config),
        "code": environment.describe_code(config.recipe),
        "metrics": {"val/acc": 0.25},
        "seconds": {"train": 1.0},
    }
    (folder / "result.json").write_text(json.dumps(content | changed))


def test_cell_that_finished_before_is_reused_and_leaves_no_folder(settings, monkeypatch, tmp_path):
    config = minuteloop.compose([*QUICK, "seed=3"])
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    monkeypatch.setattr(multirun, "train_in_process", lambda *_: pytest.fail("trained again"))
    write_finished(tmp_path / "runs/before/plain-7", config)
    assert multirun.run_cell(None, settings) == 0.25
    assert not (tmp_path / "runs/now/plain-0").exists()


@pytest.mark.parametrize(
    "changed",
    [{"status": "interrupted"}, {"status": "overrun"}, {"code": {"hash": "other"}}, {"code": {}}, {"config_hash": "x"}],
    ids=str,
)
def test_other_runs_are_not_reused(changed, settings, monkeypatch, tmp_path):
    config = minuteloop.compose([*QUICK, "seed=3"])
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    started = []
    monkeypatch.setattr(multirun, "train_in_process", lambda *args: started.append(args) or "exit code 1")
    write_finished(tmp_path / "runs/before/plain-7", config, **changed)
    assert multirun.run_cell(None, settings) is None
    assert len(started) == 1 and started[0][0].logger.group == "now"


def test_record_of_another_config_in_the_cells_folder_is_kept(settings, monkeypatch, tmp_path):
    config = minuteloop.compose(QUICK)
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    started = []
    monkeypatch.setattr(multirun, "train_in_process", lambda *args: started.append(args) or "exit code 1")
    (tmp_path / "runs/now/plain-0/result.json").write_text('{"status": "failed"}')
    multirun.run_cell(None, settings)
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
    config = minuteloop.compose([*QUICK, *overrides])
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    started = []
    monkeypatch.setattr(multirun, "train_in_process", lambda *args: started.append(args) or "exit code 1")
    multirun.run_cell(None, settings)
    assert started[0][0].logger.group == group


def test_wandb_group_of_a_sweep_in_the_current_folder_has_its_name(settings, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    monkeypatch.chdir(settings.sweep.dir)
    config = minuteloop.compose(QUICK)
    started = []
    monkeypatch.setattr(multirun, "train_in_process", lambda *args: started.append(args) or "exit code 1")
    multirun._train_or_reuse(Cell(0, [], tmp_path / "runs/now/plain-0"), config, Path("."))
    assert started[0][0].logger.group == "now"


def test_ctrl_c_reaches_a_cell_that_is_just_starting_in_a_worker(tmp_path):
    (tmp_path / "stop").touch()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = minuteloop.compose([*QUICK, "budget=100000steps"])
        ended = multirun.train_in_process(config, tmp_path / "cell", tmp_path / "stop")
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == "exit code 130"


def test_finished_runs_are_searched_two_folders_below_the_sweeps_parent_only(settings, monkeypatch, tmp_path):
    """Not in all of a tree that may hold data sets and other projects."""
    config = minuteloop.compose([*QUICK, "seed=3"])
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    monkeypatch.setattr(multirun, "train_in_process", lambda *_: "exit code 1")
    patterns, glob = [], Path.glob

    def glob_and_note(path, pattern, **kwargs):
        patterns.append((path, pattern))
        return glob(path, pattern, **kwargs)

    for folder in ("runs/deep/er/plain-7", "runs/plain-7", "elsewhere/before/plain-7"):
        write_finished(tmp_path / folder, config)
    monkeypatch.setattr(Path, "glob", glob_and_note)
    assert multirun.run_cell(None, settings) is None
    assert (tmp_path / "runs", "*/*/result.json") in patterns
    assert all(pattern == "*/*/result.json" for _, pattern in patterns if "result.json" in pattern)
    assert not any("**" in pattern for _, pattern in patterns)
