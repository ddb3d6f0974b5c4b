"""The command: what is searched, what is refused in one line, and searches that are killed and go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from command_line import run_script
from offline_wandb import read

from minuteloop.tune.search import read_search
from minuteloop.tune.storage import finished, quiet_optuna
from minuteloop.validation import ConfigError

TUNE = Path(__file__).parents[2] / "scripts/tune.py"
TRAIN = TUNE.parents[1] / "train.py"
CHEAP = ["arch=resnet18", "size=nano", "recipe=plain", "data=sample", "logger=none", "logger.pictures=false"]


def search(*overrides, config_name="config", config_dir=""):
    return read_search(config_name, str(config_dir), ["arch=resnet18", "recipe=plain", *overrides])


def test_the_same_words_are_the_same_search(tmp_path):
    folders = [
        search(*words).folder
        for words in (
            ["recipe.lr=interval(0.1,1)", "budget=20s"],
            ["budget=20s", "recipe.lr=interval(0.1,1)", "tune.trials=100", "tune.workers=2"],
            ["recipe.lr=interval(0.1,2)", "budget=20s"],
            ["recipe.lr=interval(0.1,1)", "budget=20s", "tune.seed=1"],
        )
    ]
    assert folders[0] == folders[1] and len(set(folders)) == 3 and folders[0].parent == Path("runs")
    assert search("recipe.lr=1,2", f"tune.folder={tmp_path}").folder == tmp_path


def test_a_file_is_a_search_and_its_values_can_be_replaced(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "defaults: [config, override arch: resnet18, _self_]\n"
        "tune: {trials: 7, reward: {val/acc: 1, params: -0.05}, space: {recipe.lr: 'interval(0.1, 1)',\n"
        "  arch.block.kernel: [3, 5]}}\n"
    )
    found = read_search("mine", str(tmp_path), ["recipe.lr=0.1,0.2", "tune.reward.params=-0.01"])
    assert found.space.lines() == ["recipe.lr: 0.1, 0.2", "arch.block.kernel: 3, 5"]
    assert (found.trials, found.settings.reward, found.typed) == (7, {"val/acc": 1, "params": -0.01}, [])
    assert found.folder.name.startswith("tune-mine-")
    config = found.compose(["arch.block.kernel=5"])
    assert (config.arch.block.kernel, config.arch.name) == (5, "resnet18")


def test_published_search_is_that_of_the_paper():
    """EfficientNetV2, section 3.2: MBConv or Fused-MBConv, kernel 3 or 5, expansion 1, 4 or 6."""
    found = read_search("search_fused_mbconv", "", [])
    choices = {name: set(distribution.choices) for name, distribution in found.space.distributions.items()}
    assert all(choices[f"arch.block.kernel.{stage}"] == {3, 5} for stage in range(1, 6))
    assert all(choices[f"arch.block.inner.{stage}"] == {"c", "4c", "6c"} for stage in range(1, 6))
    assert found.settings.reward == {"val/acc": 1, "step_seconds": -0.07, "params": -0.05}
    point = {name: distribution.choices[-1] for name, distribution in found.space.distributions.items()}
    config = found.compose(found.space.overrides(point))
    assert config.arch.block.layout == ["K", *["1 k 1"] * 5] and config.arch.block.inner == ["c", *["6c"] * 5]


def test_compound_scaling_doubles_the_cost_at_every_point():
    """EfficientNet, equation 3; its own alpha 1.2, beta 1.1, gamma 1.15 are 1.92, about 2."""
    found = read_search("search_compound_scaling", "", [])
    assert found.trials == 20
    for point in ({"size.alpha": 1.2, "size.beta": 1.1}, {"size.alpha": 1.4, "size.beta": 1.15}):
        size = found.compose(found.space.overrides(point)).size
        assert (size.alpha, size.beta, size.phi) == (*point.values(), 1) and size.gamma >= 1
        assert size.alpha * size.beta**2 * size.gamma**2 == pytest.approx(2)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ([], "tune: has nothing to search; give a key several values"),
        (["recipe.lr=0.1,-1"], r"recipe.lr=-1: must be auto or a number >= 0"),
        (["arch.block.act=gelu,rellu"], "arch.block.act=rellu: must be one of .*Did you mean relu"),
        (["arch.block.akt=gelu,relu"], "arch.block.akt=gelu: unknown key. Did you mean arch.block.act"),
        (["tune.trails=3", "recipe.lr=1,2"], "tune.trails.*tune.trials"),
        (["recipe.lr=interval(0.1,1)", "tune.sampler=grid"], "tune.sampler=grid: recipe.lr has no list of values"),
        (["tune.pruner=median", "recipe.lr=1,2", "tune.objectives=[params]"], "tune.pruner=median: must be none"),
        (["study.each={seed:[1]}", "recipe.lr=1,2"], "study"),
        (["data.holdout=0", "recipe.lr=1,2"], "data.holdout=0: must be > 0 in a search"),
    ],
)
def test_what_cannot_be_searched_is_one_line_before_anything_is_written(words, rule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rule) as error:
        search(*words)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["tune.trials=3"], ["-m", "tune.trials=3", "seed=0,1"]])
def test_a_search_is_not_trained(words, tmp_path):
    done = run_script(TRAIN, *CHEAP, *words, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.endswith(
        "tune: is a search, not a run or a sweep; use minuteloop tune\n"
    )
    assert not list(tmp_path.rglob("result.json"))


# --- processes ----------------------------------------------------------------------------------------------------


def command(*words):
    return [sys.executable, TUNE, *CHEAP, "budget=12steps", "recipe.batch_size=32", "evaluations=2", *words]


def trials_in(folder):
    (database,) = folder.glob("runs/tune-*/search.db")
    with quiet_optuna():
        return optuna.load_study(study_name=database.parent.name, storage=f"sqlite:///{database}")


@pytest.mark.exhaustive
def test_a_search_killed_three_times_has_its_trials(tmp_path):
    """Each kill costs a trial that is tried again at its point; no point is drawn twice."""
    words = command("recipe.lr=tag(log,interval(0.01,1))", "tune.trials=5", "tune.pruner=none")
    for number in range(3):
        kill_during_trial(number, words, tmp_path)
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    study = trials_in(tmp_path)
    ended = finished(study)
    assert len(ended) == 5 and all(trial.state.name == "COMPLETE" for trial in ended)
    points = [trial.params["recipe.lr"] for trial in ended]
    assert len(set(points)) == 5
    killed = [trial for trial in study.trials if trial not in ended]
    assert killed and {trial.params["recipe.lr"] for trial in killed} <= set(points)
    assert "- Best: trial " in done.stdout and list(tmp_path.glob("runs/tune-*/report.md"))


@pytest.mark.exhaustive
def test_two_processes_share_a_search(tmp_path):
    words = command("recipe.lr=tag(log,interval(0.01,1))", "tune.trials=5", "tune.pruner=none")
    processes = [subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    study = trials_in(tmp_path)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5
    assert len({trial.params["recipe.lr"] for trial in study.trials}) == 5
    records = list(tmp_path.glob("runs/tune-*/trial-*/result.json"))
    assert len(records) == 5 and all(json.loads(path.read_text())["status"] == "finished" for path in records)


@pytest.mark.exhaustive
def test_ctrl_c_saves_and_the_search_continues(tmp_path):
    words = command("recipe.lr=0.05,0.1,0.2", "tune.sampler=grid")
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: list(tmp_path.glob("runs/tune-*/trial-0/result.json")))
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130 and "press Ctrl-C again to stop immediately" in out
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and len(finished(trials_in(tmp_path))) == 3


@pytest.mark.exhaustive
def test_the_report_is_a_wandb_run_in_the_group_of_the_trials(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = [word for word in command("recipe.lr=0.05,0.1", "tune.sampler=grid") if word != "logger=none"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "\nW&B: wandb sync " in done.stdout, done.stderr
    (folder,) = tmp_path.glob("runs/tune-*")
    runs = [read(file) for file in tmp_path.glob("**/offline-run-*/*.wandb")]
    assert len(runs) == 3 and {run["run"][0]["run_group"] for run in runs} == {folder.name}
    (report,) = (run for run in runs if run["run"][0].get("job_type") == "report")
    keys = {key.partition(".")[0] for entry in report["history"] for key in entry["item"]}
    assert {"report/trials", "figures/trials"} <= keys


def kill_during_trial(number, words, folder):
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: process.poll() is not None or list(folder.glob(f"runs/tune-*/trial-{number}*/result.json")))
    process.kill()
    process.wait()


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
