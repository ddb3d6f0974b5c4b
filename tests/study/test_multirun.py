"""Multiruns: cells checked up front, apart from each other, reused when finished, summed up in a table."""

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
from omegaconf import OmegaConf

import minuteloop
from minuteloop import cli as command
from minuteloop import hardware
from minuteloop.records import environment, record
from minuteloop.study import multirun
from minuteloop.validation import ConfigError

ROOT = Path(__file__).parents[2]
SMALL = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "size.reduce=32", "recipe=plain"]
QUICK = [*SMALL, "data=sample", "logger=none", "recipe.batch_size=64", "evaluations=1"]

# a batch transform that ends its process in the way asked
DEADLY = """
import os, signal
from dataclasses import dataclass


@dataclass
class Deadly:
    how: str = "not"
    stage = "pixels"

    def __call__(self, images, targets):
        if self.how == "raise":
            raise RuntimeError("on purpose | here\\nand more")
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return images, targets
"""


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    (folder / "ingredient").mkdir(parents=True)
    (folder / "deadly.py").write_text(DEADLY)
    (folder / "ingredient/deadly.yaml").write_text(
        "# @package recipe.batch.deadly\n_target_: deadly.Deadly\nhow: not\n"
    )
    return folder


def sweep(cwd, *words, folder=None):
    options = ["-m", "-cd", str(folder)] if folder else ["-m"]
    command = [sys.executable, str(ROOT / "train.py"), *options, *QUICK, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def tables(done):
    """The rows of a sweep's two tables as lists of texts."""
    rows = [
        [text.strip() for text in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in done.stdout.splitlines()
        if line.startswith("|")
    ]
    ends = [index for index, row in enumerate(rows) if row[0] == "over seeds"] or [len(rows)]
    return rows[2 : ends[0]], rows[ends[0] + 2 :]


def records(root):
    return {path.parent: json.loads(path.read_text()) for path in root.glob("runs/*/*/result.json")}


def test_a_sweep_ends_in_a_table_and_is_extended_by_the_same_command(tmp_path):
    first = sweep(tmp_path, "budget=2steps", "recipe.lr=0.1,0.01", "seed=0")
    assert first.returncode == 0, first.stderr
    rows, groups = tables(first)
    assert [row[0] for row in rows] == ["recipe.lr=0.1", "recipe.lr=0.01"] and not groups
    before = records(tmp_path)
    (folder,) = {path.parent for path in before}
    assert (folder / "table.md").read_text().strip() in first.stdout

    second = sweep(tmp_path, "budget=2steps", "recipe.lr=0.1,0.01", "seed=range(0,2)")
    assert second.returncode == 0, second.stderr
    assert second.stdout.count(": finished before, runs/") == 2
    rows, groups = tables(second)
    found = records(tmp_path)
    new = found.keys() - before.keys()
    (other,) = {path.parent for path in new}
    assert {path.name for path in other.iterdir()} == {"cells", "multirun.yaml", "table.md", *(p.name for p in new)}
    assert [row[3] for row in rows] == ["finished, reused", "finished"] * 2
    accuracy = {}
    for words, shown, training, _, where in rows:
        cell = found[(other / where).resolve()]
        assert f"recipe.lr={cell['config']['recipe']['lr']} seed={cell['seed']}" == words
        assert shown == f"{100 * cell['metrics']['val/acc']:.2f} %" and training == f"{cell['seconds']['train']:.1f} s"
        accuracy.setdefault(words.split()[0], []).append(100 * cell["metrics"]["val/acc"])
    assert [group[:3] for group in groups] == [
        [words, f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %", "2"]
        for words, values in accuracy.items()
    ]
    assert "test" not in (other / "table.md").read_text()


def test_cells_that_raise_or_are_killed_take_no_other_down(tmp_path, mine):
    done = sweep(
        tmp_path, "ingredient=[deadly]", "budget=2steps", "recipe.batch.deadly.how=raise,kill,not", folder=mine
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    rows, groups = tables(done)
    assert [row[3] for row in rows] == [
        "failed: RuntimeError: on purpose \\| here",
        "failed: the run was killed before its end",
        "finished",
    ]
    assert not groups
    (log,) = tmp_path.glob("runs/*/*-0/log.txt")
    assert "deadly.py" in log.read_text(), "the traceback of what failed is in the cell's log"


def test_joblib_runs_cells_side_by_side_with_a_share_of_the_cores_each(tmp_path, mine, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.delenv("OMP_NUM_THREADS")
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "ingredient=[deadly]", "budget=2steps"]
    done = sweep(tmp_path, *words, "recipe.batch.deadly.how=kill,not", folder=mine)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    rows, _ = tables(done)
    assert [row[3].split(":")[0] for row in rows] == ["failed", "finished"]
    share = {found["config"]["threads"] for found in records(tmp_path).values() if found["config"]}
    assert share == {max(1, len(os.sched_getaffinity(0)) // 2)}


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def started(root):
    """Whether a cell is past its first steps."""
    return any(len(path.read_text().splitlines()) > 1 for path in root.glob("runs/*/*/metrics.csv"))


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_ctrl_c_stops_the_sweep_after_the_running_cell_saved_itself(tmp_path, launcher):
    words = [*QUICK, "budget=100000steps", "seed=range(0,3)", f"hydra/launcher={launcher}"]
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
        words.append("hydra.launcher.n_jobs=1")
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for(lambda: started(tmp_path))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    (saved,) = records(tmp_path).values()
    assert saved["status"] == "interrupted" and "val/acc" in saved["metrics"]
    assert "seed=0 | " in told and told.count("| not run") == 2
    assert not list(tmp_path.glob("runs/*/stop")) and len(list(tmp_path.glob("runs/*/*/log.txt"))) == 1


def test_ctrl_c_is_not_lost_on_a_cell_that_is_just_starting_in_a_worker(tmp_path):
    (tmp_path / "stop").touch()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = minuteloop.compose([*QUICK, "budget=100000steps"])
        told = multirun._train_apart(config, tmp_path / "cell", tmp_path / "stop")
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == "code 130"


def test_a_killed_sweep_takes_its_cell_along_and_is_restarted_with_the_same_command(tmp_path):
    sizes = "recipe.batch_size=64,32"
    command = [sys.executable, str(ROOT / "train.py"), "-m", *QUICK, sizes, "budget=8ep"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(tmp_path.glob("runs/*/*/metrics.csv"))) == 2)
        process.kill()
    (second,) = tmp_path.glob("runs/*/*-1")
    time.sleep(1)
    assert json.loads((second / "result.json").read_text())["status"] != "finished"
    before = (second / "log.txt").read_text()
    again = sweep(tmp_path, sizes, "budget=8ep")
    assert again.returncode == 0, again.stderr
    assert [row[3] for row in tables(again)[0]] == ["finished, reused", "finished"]
    assert (second / "log.txt").read_text() == before, "the killed cell went on"


def test_a_named_study_is_one_sweep_and_one_group_in_wandb(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/study.yaml").write_text(
        "defaults: [config, override recipe: plain, override data: sample, _self_]\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}\n"
    )
    words = [word for word in QUICK if word != "logger=none" and not word.startswith(("recipe=", "data="))]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "-cd", "mine", "-cn", "study", *words, "budget=1steps"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in tables(done)[0]] == ["seed=0", "seed=1"]
    files = list(tmp_path.glob("runs/*/*/wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    (folder,) = {file.parents[3] for file in files}
    for file in files:
        told = subprocess.run(
            [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", str(file)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f'"{folder.name}"' in told.stdout


MISTAKES = {
    ("arch=resnet18,convnet", "seed=0,1"): ["cell 3 of 4 (arch=convnet seed=0)", "nearest: convnext"],
    ("seed=0,-1",): ["cell 2 of 2 (seed=-1)", "whole number"],
    ("recipe=plain,deit", "recipe.optimizer.betas=[0.9,0.99]"): ["cell 1 of 2", "recipe.optimizer.betas"],
    ("budget=60",): ["error: budget=60,", "60s"],
    ("seed=range(0,3",): ["range(0,3"],
    ("hydra/launcher=jobli",): ["nearest: joblib"],
    ("hydra.launcher.n_job=2", "hydra/launcher=joblib"): ["hydra.launcher.n_job"],
}


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_a_mistake_in_one_cell_is_told_before_any_is_run(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *words])
    with pytest.raises(SystemExit) as stop:
        command.main()
    told = str(stop.value)
    assert told.startswith("error: ") and "\n" not in told
    assert all(part in told for part in MISTAKES[words]), told
    assert not list(tmp_path.iterdir())


@pytest.fixture
def settings(tmp_path):
    """Hydra's node as a launcher hands it to a cell."""
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


def test_a_sweeper_that_learns_is_told_of_a_failure_and_the_basic_one_goes_on(settings, monkeypatch):
    def refused(*_):
        raise ConfigError("seed=3: unlucky")

    monkeypatch.setattr(multirun, "checked", refused)
    assert multirun.cell(None, settings) is None
    settings.sweeper._target_ = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
    with pytest.raises(multirun.CellFailed, match="seed=3: failed: seed=3: unlucky"):
        multirun.cell(None, settings)


def finished(folder, config, **changed):
    folder.mkdir(parents=True)
    content = {
        "status": "finished",
        "config_hash": record.config_hash(config),
        "code": environment.describe_code(config.recipe),
        "metrics": {"val/acc": 0.25},
        "seconds": {"train": 1.0},
    }
    (folder / "result.json").write_text(json.dumps(content | changed))


def test_a_finished_cell_gives_its_figure_and_leaves_no_folder(settings, monkeypatch, tmp_path):
    config = minuteloop.compose([*QUICK, "seed=3"])
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    monkeypatch.setattr(multirun, "_train_apart", lambda *_: pytest.fail("was run again"))
    finished(tmp_path / "runs/before/plain-7", config)
    assert multirun.cell(None, settings) == 0.25
    assert not (tmp_path / "runs/now/plain-0").exists()


@pytest.mark.parametrize(
    "changed",
    [{"status": "interrupted"}, {"status": "overrun"}, {"code": {"hash": "other"}}, {"code": {}}, {"config_hash": "x"}],
    ids=str,
)
def test_what_is_not_the_same_finished_run_is_not_reused(changed, settings, monkeypatch, tmp_path):
    config = minuteloop.compose([*QUICK, "seed=3"])
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    run = []
    monkeypatch.setattr(multirun, "_train_apart", lambda *order: run.append(order) or "code 1")
    finished(tmp_path / "runs/before/plain-7", config, **changed)
    assert multirun.cell(None, settings) is None
    assert len(run) == 1 and run[0][0].logger.group == "now"


def test_what_a_killed_sweep_left_in_the_same_folder_is_not_written_over(settings, monkeypatch, tmp_path):
    config = minuteloop.compose(QUICK)
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    run = []
    monkeypatch.setattr(multirun, "_train_apart", lambda *order: run.append(order) or "code 1")
    (tmp_path / "runs/now/plain-0/result.json").write_text('{"status": "failed"}')
    multirun.cell(None, settings)
    assert run[0][1] == tmp_path / "runs/now/plain-0-again"


def test_what_is_imported_before_cells_are_forked_starts_no_device_and_no_thread():
    code = (
        "import threading, torch\n"
        "torch._C._cuda_getDeviceCount = None\n"
        "from minuteloop.study.multirun import HEAVY\n"
        "for name in HEAVY: __import__(name)\n"
        "assert threading.active_count() == 1 and not torch.cuda.is_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_cells_share_a_gpu(tmp_path):
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "device=cuda", "budget=20steps", "seed=range(0,4)"]
    done = sweep(tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(found["host"]["gpu"] for found in records(tmp_path).values())


def test_a_group_that_is_asked_for_wins(settings, monkeypatch):
    config = minuteloop.compose([*QUICK, "logger.group=mine"])
    monkeypatch.setattr(multirun, "checked", lambda *_: config)
    run = []
    monkeypatch.setattr(multirun, "_train_apart", lambda *order: run.append(order) or "code 1")
    multirun.cell(None, settings)
    assert run[0][0].logger.group == "mine"


def test_records_are_found_by_their_config_newest_first(tmp_path):
    config = minuteloop.compose(QUICK)
    for age, name in enumerate(["a", "deep/er/b"]):
        finished(tmp_path / name, config)
        os.utime(tmp_path / name / "result.json", (1000 + age, 1000 + age))
    finished(tmp_path / "c", config, config_hash="other")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/result.json").write_text("{half")
    found = record.find(tmp_path, record.config_hash(config))
    assert [folder.relative_to(tmp_path).as_posix() for folder, _ in found] == ["deep/er/b", "a"]


def test_the_codes_hash_takes_in_a_users_files(mine):
    def hashed():
        return environment.describe_code(
            minuteloop.compose([*QUICK, "ingredient=[deadly]"], config_dir=str(mine)).recipe
        )["hash"]

    before = hashed()
    assert before == hashed() != environment.describe_code(minuteloop.compose(QUICK).recipe)["hash"]
    (mine / "deadly.py").write_text(DEADLY + "\n# changed\n")
    assert hashed() != before


def test_cores_that_somebody_divided_are_not_divided_again(monkeypatch):
    monkeypatch.setattr(hardware, "idle_cores", lambda: 1.2)
    monkeypatch.setattr(hardware, "default_threads", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert hardware.free_threads() == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert hardware.free_threads() == 1
