"""Sweeps on the command line: all cells checked first, each in its own process, finished ones reused, one table."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import TRAIN, run_script

from minuteloop import cli
from minuteloop.study import multirun, train_cell
from minuteloop.study.cell import read_cells
from minuteloop.study.design import read_study
from minuteloop.training.resume import locked

SMALL = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "size.reduce=32", "recipe=plain"]
QUICK = [*SMALL, "data=sample", "logger=none", "logger.pictures=false", "recipe.batch_size=64", "evaluations=1"]

# a batch transform that raises or kills its process
DEADLY = """
import os, signal
from dataclasses import dataclass


@dataclass
class Deadly:
    ending: str = "none"
    stage = "pixels"

    def __call__(self, images, targets):
        if self.ending == "raise":
            raise RuntimeError("on purpose | here\\nand more")
        if self.ending == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return images, targets
"""


@pytest.fixture
def deadly_folder(tmp_path):
    folder = tmp_path / "mine"
    (folder / "ingredient").mkdir(parents=True)
    (folder / "deadly.py").write_text(DEADLY)
    (folder / "ingredient/deadly.yaml").write_text(
        "# @package recipe.batch.deadly\n_target_: deadly.Deadly\nending: none\n"
    )
    return folder


def sweep(cwd, *overrides, folder=None):
    """Run a sweep of QUICK runs to its end; `folder` has the user's own config files."""
    options = ["-m", "-cd", str(folder)] if folder else ["-m"]
    return run_script(TRAIN, *options, *QUICK, *overrides, cwd=cwd)


def arms(done):
    """Return the rows of a sweep's table as {column: text}."""
    table = done.stdout.partition("## Arms\n\n")[2].partition("\n\n")[0]
    header, _, *rows = ([text.strip() for text in line.split("|")[1:-1]] for line in table.splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


def statuses(root):
    """Return the status of each cell's record, in order."""
    return [record["status"] for _, record in sorted(records(root).items())]


def records(root):
    return {path.parent: json.loads(path.read_text()) for path in root.glob("runs/*/*/result.json")}


def test_sweep_ends_with_a_report_and_is_extended_by_a_larger_one(tmp_path):
    first = sweep(tmp_path, "budget=2steps", "recipe.lr=0.1,0.01", "seed=0")
    assert first.returncode == 0, first.stderr
    assert [(row["arm"], row["n"]) for row in arms(first)] == [("recipe.lr=0.1", "1"), ("recipe.lr=0.01", "1")]
    before = records(tmp_path)
    (folder,) = {path.parent for path in before}
    assert (folder / "report.md").read_text() in first.stdout
    assert f": minuteloop report runs/{folder.name} --html page.html\n" in first.stdout

    second = sweep(tmp_path, "budget=2steps", "recipe.lr=0.1,0.01", "seed=range(0,2)", "logger.pictures=true")
    assert second.returncode == 0, second.stderr
    assert second.stdout.count(": finished before, runs/") == 2
    rows = arms(second)
    results = records(tmp_path)
    new = results.keys() - before.keys()
    (other,) = {path.parent for path in new}
    files = {"cells", "multirun.yaml", "report.md", "figures", *(path.name for path in new)}
    assert {path.name for path in other.iterdir()} == files
    assert all((path / "pictures/curves.png").exists() for path in new)
    assert (other / "figures/table.svg").exists()
    for row, lr in zip(rows, ("0.1", "0.01"), strict=True):
        own = [result for result in results.values() if str(result["config"]["recipe"]["lr"]) == lr]
        accuracies = [100 * result["metrics"]["val/acc"] for result in own]
        assert (row["arm"], row["n"]) == (f"recipe.lr={lr}", "2")
        assert row["accuracy"].startswith(f"{statistics.mean(accuracies):.2f} % [")
        assert row["train s"] == f"{statistics.mean(result['seconds']['train'] for result in own):.1f}"
    assert all(set(result["metrics"]) == {"val/acc", "val/loss"} for result in results.values()), "no test set"
    assert "test set" not in (other / "report.md").read_text()
    assert "| recipe.lr=0.01 |" in second.stdout.partition("## Against the baseline")[2]
    seeds = [cell.label().split()[-1] for cell in read_cells(other)]
    assert seeds == ["seed=0", "seed=0", "seed=1", "seed=1"], "arms alternate"


@pytest.mark.exhaustive
def test_cells_that_raise_or_are_killed_do_not_stop_the_others(tmp_path, deadly_folder):
    done = sweep(
        tmp_path,
        "ingredient=[deadly]",
        "budget=2steps",
        "recipe.batch.deadly.ending=raise,kill,none",
        folder=deadly_folder,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (row,) = arms(done)
    assert row["arm"].endswith(" recipe.batch.deadly.ending=none")
    reasons = {"raise": "RuntimeError: on purpose | here", "kill": "killed, or still running"}
    for ending, reason in reasons.items():
        assert re.search(rf"- Left out, failed: {re.escape(reason)}: .*deadly.ending={ending}", done.stdout)
    (log,) = tmp_path.glob("runs/*/*-0/log.txt")
    assert "deadly.py" in log.read_text(), "the traceback of what failed is in the cell's log"


@pytest.mark.exhaustive
def test_joblib_runs_cells_in_parallel_and_divides_the_cores(tmp_path, deadly_folder, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.delenv("OMP_NUM_THREADS")
    overrides = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "ingredient=[deadly]", "budget=2steps"]
    done = sweep(tmp_path, *overrides, "recipe.batch.deadly.ending=kill,none", folder=deadly_folder)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert statuses(tmp_path) == ["failed", "finished"]
    threads = {record["config"]["threads"] for record in records(tmp_path).values() if record["config"]}
    assert threads == {max(1, len(os.sched_getaffinity(0)) // 2)}


@pytest.mark.exhaustive
def test_tasks_of_several_cells_give_the_results_of_single_cells(tmp_path):
    """Two tasks of joblib train three cells; weights are bit-equal to those of the basic launcher."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launchers = {
        "basic": [],
        "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.cells_per_task=2"],
    }
    weights = {}
    for name, words in launchers.items():
        (tmp_path / name).mkdir()
        done = sweep(tmp_path / name, *words, "budget=3steps", "seed=range(0,3)", "threads=1")
        assert done.returncode == 0, done.stderr
        weights[name] = {
            record["seed"]: (folder / "model.safetensors").read_bytes()
            for folder, record in records(tmp_path / name).items()
        }
        (folder,) = (tmp_path / name).glob("runs/*")
        assert [cell.number for cell in read_cells(folder)] == [0, 1, 2] and arms(done)[0]["n"] == "3"
    assert len(weights["basic"]) == 3 and weights["basic"] == weights["joblib"]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def started(root):
    """Whether a cell is past its first steps."""
    return any(len(path.read_text().splitlines()) > 1 for path in root.glob("runs/*/*/metrics.csv"))


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.exhaustive)])
def test_ctrl_c_stops_the_sweep_after_the_running_cell_has_saved(tmp_path, launcher):
    overrides = [*QUICK, "budget=100000steps", "seed=range(0,3)", f"hydra/launcher={launcher}"]
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
        overrides.append("hydra.launcher.n_jobs=1")
    with subprocess.Popen(
        [sys.executable, TRAIN, "-m", *overrides],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for(lambda: started(tmp_path))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    (saved,) = records(tmp_path).values()
    assert saved["status"] == "interrupted" and "val/acc" in saved["metrics"]
    assert "Left out, interrupted: " in output and "Left out, not run: " in output
    assert not list(tmp_path.glob("runs/*/stop")) and len(list(tmp_path.glob("runs/*/*/log.txt"))) == 1


@pytest.mark.exhaustive
def test_killed_sweep_ends_its_cell_and_is_restarted_by_the_same_command(tmp_path):
    sizes = "recipe.batch_size=64,32"
    command = [sys.executable, TRAIN, "-m", *QUICK, sizes, "budget=8ep"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(tmp_path.glob("runs/*/*/metrics.csv"))) == 2)
        process.kill()
    (second,) = tmp_path.glob("runs/*/*-1")
    time.sleep(1)
    assert json.loads((second / "result.json").read_text())["status"] != "finished"
    before = (second / "log.txt").read_text()
    again = sweep(tmp_path, sizes, "budget=8ep")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(": finished before, runs/") == 1 and [row["n"] for row in arms(again)] == ["1", "1"]
    assert (second / "log.txt").read_text() == before, "the killed cell kept training"


@pytest.mark.exhaustive
def test_named_study_is_one_sweep_and_one_wandb_group(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/study.yaml").write_text(
        "defaults: [config, override recipe: plain, override data: sample, _self_]\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}\n"
    )
    overrides = [word for word in QUICK if word != "logger=none" and not word.startswith(("recipe=", "data="))]
    command = [sys.executable, TRAIN, "-cd", "mine", "-cn", "study", *overrides, "budget=1steps"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)  # W&B ends with its process
    assert done.returncode == 0, done.stderr
    assert [row["n"] for row in arms(done)] == ["2"]
    files = list(tmp_path.glob("runs/*/*/wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    (folder,) = {file.parents[3] for file in files}
    for file in files:
        done = subprocess.run(
            [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", str(file)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f'"{folder.name}"' in done.stdout


STUDY = """
defaults:
  [config, override arch: resnet18, override recipe: plain, override data: sample, override logger: none, _self_]
size: {depth: 0.1, width: 0.125, reduce: 32}
recipe: {batch_size: 64}
logger: {pictures: false}
evaluations: 1
study:
  question: Does GELU help in two steps?
  add_one: {modernization: [gelu]}
  seeds: 2
  budgets: [2steps]
hydra: {mode: MULTIRUN}
"""


def test_study_runs_its_arms_and_leaves_records_that_name_them(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/little.yaml").write_text(STUDY)
    command = ["-cd", "mine", "-cn", "little"]
    done = run_script(TRAIN, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in ("study little: Does GELU help in two steps?", "arms: none, +gelu (baseline: none)"):
        assert f"{line}\n" in done.stdout
    assert "\ncells: 4; arms: 2; seeds: 2; budgets: 2steps; finished before: 0\n" in done.stdout
    assert "\ncell 1 of 4\n" in done.stdout and re.search("\ncell 4 of 4, (the|about) .*\n", done.stdout)
    labels = ["none seed=0", "+gelu seed=0", "none seed=1", "+gelu seed=1"]
    assert [(row["arm"], row["n"]) for row in arms(done)] == [("none", "2"), ("+gelu", "2")]
    results = records(tmp_path)
    (sweep,) = {folder.parent for folder in results}
    study = read_study(sweep)
    assert (study.name, study.kind, study.key) == ("little", "add_one", "modernization")
    for number, label in enumerate(labels):
        record = results[sweep / f"resnet18-plain-{number}"]
        name, seed = label.split()
        steps = "" if name == "none" else "gelu"
        assert record["overrides"] == [f"modernization=[{steps}]", "budget=2steps", seed]
        assert study.arm_of(record["overrides"]) == name
        assert list(record["config"]["arch"]["applied"]) == [steps] * (name != "none")
        assert "study" not in record["config"] and record["steps"] == 2

    again = run_script(TRAIN, *command, "seed=1", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "\ncells: 2; arms: 2; seeds: 1; budgets: 2steps; finished before: 2\n" in again.stdout
    assert again.stdout.count(": finished before, runs/") == 2


@pytest.mark.exhaustive
def test_seeds_side_by_side_share_one_measured_rate(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    overrides = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "budget=1s", "seed=range(0,3)"]
    for seeds in (3, 4):
        done = sweep(tmp_path, *overrides[:-1], f"seed=range(0,{seeds})")
        assert done.returncode in (0, 1), done.stderr  # 1: beside the other cell one may take twice its second
        plans = [record["plan"] for record in records(tmp_path).values()]
        assert len(plans) >= seeds, "a run that a busy machine stops is run again"
        assert all(plan == plans[0] for plan in plans)
    assert done.stdout.count("measuring the rate") == 0


def test_second_sweep_in_a_folder_is_refused_while_the_first_runs(monkeypatch, capsys, cwd):
    (cwd / "exp/cells").mkdir(parents=True)
    (cwd / "exp/cells/0.json").write_text("{}")
    with locked(cwd / "exp/cells"), pytest.raises(SystemExit) as stopped:
        cli.train(["-m", *QUICK, "hydra.sweep.dir=exp", "seed=7,8"])
    assert stopped.value.code == 2
    message = "error: hydra.sweep.dir=exp: another sweep runs there; give each a folder of its own\n"
    assert capsys.readouterr().err == message and (cwd / "exp/cells/0.json").read_text() == "{}"


def test_rerun_forgets_the_rates_of_its_folder(monkeypatch, cwd):
    """One sweep after another, in one process and one folder; their cells fail at once."""
    monkeypatch.setattr(train_cell, "train_in_process", lambda *_: "exit code 1")
    monkeypatch.setattr(multirun.Sweep, "folder", None)
    (cwd / "exp/rates").mkdir(parents=True)
    handler = signal.getsignal(signal.SIGINT)
    try:
        for rerun in ("false", "true"):
            assert (cwd / "exp/rates").exists()
            with pytest.raises(SystemExit) as stopped:
                cli.train(["-m", *QUICK, "hydra.sweep.dir=exp", f"rerun={rerun}", "seed=0"])
            assert stopped.value.code == 1
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not (cwd / "exp/rates").exists()


WRONG_SWEEPS = {
    ("arch=resnet18,convnet", "seed=0,1"): ["cell 2 of 4 (seed=0 arch=convnet)", "Did you mean convnext?"],
    ("seed=0,-1",): ["cell 2 of 2 (seed=-1)", "seed=-1: must be an integer >= 0"],
    ("recipe=plain,deit", "recipe.optimizer.betas=[0.9,0.99]"): ["cell 1 of 2", "recipe.optimizer.betas"],
    ("budget=60",): ["error: budget=60:", "60s"],
    ("seed=range(0,3",): ["range(0,3"],
    ("hydra/launcher=jobli",): ["Did you mean joblib?"],
    ("hydra.launcher.n_job=2", "hydra/launcher=joblib"): ["hydra.launcher.n_job"],
}


@pytest.mark.parametrize("overrides", WRONG_SWEEPS, ids=" ".join)
def test_error_in_one_cell_is_one_line_before_any_cell_runs(overrides, monkeypatch, capsys, cwd):
    with pytest.raises(SystemExit) as stopped:
        cli.train(["-m", *overrides])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1
    assert all(part in message for part in WRONG_SWEEPS[overrides]), message
    assert not list(cwd.iterdir())


def test_preloaded_imports_start_no_device_and_no_thread():
    code = (
        "import threading, torch\n"
        "torch._C._cuda_getDeviceCount = None\n"
        "from minuteloop.study.cell_process import PRELOADED\n"
        "for name in PRELOADED: __import__(name)\n"
        "assert threading.active_count() == 1 and not torch.cuda.is_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_parallel_cells_share_a_gpu(tmp_path):
    overrides = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "device=cuda", "budget=20steps", "seed=range(0,4)"]
    done = sweep(tmp_path, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(record["host"]["gpu"] for record in records(tmp_path).values())
