"""recipes/wandb_sweep.yaml: the commands that an agent of W&B starts, rendered by W&B's own code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb.wandb_agent
from offline_wandb import read
from wandb.sdk.launch.sweeps.utils import load_sweep_config

from minuteloop.config.compose import compose

ROOT = Path(__file__).parents[2]
SWEEP = load_sweep_config(str(ROOT / "recipes/wandb_sweep.yaml"))
CHEAP = ["data=sample", "size=nano", "budget=2steps", "recipe.batch_size=32", "evaluations=1", "logger.pictures=false"]


def points():
    """Return values as W&B's server draws them: each listed value once, and the ends of an interval."""
    choices = {key: words.get("values") or [words["min"], words["max"]] for key, words in SWEEP["parameters"].items()}
    longest = max(map(len, choices.values()))
    return [{key: values[index % len(values)] for key, values in choices.items()} for index in range(longest)]


def rendered(point, command, cwd, monkeypatch):
    """Return the words that W&B's agent starts for a point, from the agent itself, which starts nothing."""
    started = []
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(wandb.wandb_agent, "AgentProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "started", started, raising=False)
    agent = object.__new__(wandb.wandb_agent.Agent)
    agent._in_jupyter, agent._function, agent._forward_signals, agent._run_processes = False, None, False, {}
    agent._sweep_command = list(command)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    for variable in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # the agent sets them, and this restores them
        monkeypatch.setenv(variable, "before")
    agent._command_run(
        {"run_id": "trial1", "program": SWEEP["program"], "args": {key: {"value": point[key]} for key in point}}
    )
    (words,) = started
    assert words[:2] == ["/usr/bin/env", "python"] and words[2] == "train.py"
    return words[3:]


class FakeProcess:
    """Stands in for the process of a trial; keeps its command."""

    started: list

    def __init__(self, command, **_):
        self.started.append(command)


@pytest.mark.parametrize("arguments", ["${args_no_hyphens}", "${args}"])
@pytest.mark.parametrize("point", points(), ids=str)
def test_rendered_command_composes_to_the_point(point, arguments, tmp_path, monkeypatch):
    from minuteloop.config.overrides import without_hyphens

    command = [arguments if word == "${args_no_hyphens}" else word for word in SWEEP["command"]]
    config = compose(without_hyphens(rendered(point, command, tmp_path, monkeypatch)))
    assert config.arch.name == "resnet" and config.recipe.name == "deit" and config.budget == "60s"
    assert (config.recipe.lr, config.recipe.weight_decay) == (point["recipe.lr"], point["recipe.weight_decay"])
    assert (config.recipe.strength, config.channels_last) == (point["recipe.strength"], point["channels_last"])
    assert config.arch.block.kernel == point["arch.block.kernel"]
    steps = [step for step in point["modernization"].strip("[]").split(",") if step]
    assert all(step in config.arch.applied for step in steps)


@pytest.mark.exhaustive
def test_trials_are_runs_of_their_own_in_the_sweep(tmp_path, monkeypatch):
    point = points()[-1]
    words = [word for word in rendered(point, SWEEP["command"], tmp_path, monkeypatch) if word != "budget=60s"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = subprocess.run(
        [sys.executable, ROOT / SWEEP["program"], *words, *CHEAP],
        cwd=tmp_path,
        env=os.environ | {"WANDB_RUN_ID": "trial1", "WANDB_SWEEP_ID": "sweep1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("**/offline-run-*-trial1/*.wandb")
    run = read(file)["run"][0]
    assert (run["run_id"], run["sweep_id"]) == ("trial1", "sweep1")
    (record,) = tmp_path.glob("runs/*/*/result.json")
    assert json.loads(record.read_text())["config"]["recipe"]["lr"] == point["recipe.lr"]
