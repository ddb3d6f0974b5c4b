"""The GPU's suite, tried on a CPU: cells run once, fail without harm, and are listed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import minuteloop

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import gpu_suite  # noqa: E402


def suite(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPTS / "gpu_suite.py"), *words], capture_output=True, text=True)


def test_a_run_and_the_loop_by_hand_are_measured_once(tmp_path):
    first = suite(str(tmp_path), "--tiny", "--only", "airbench")
    assert first.returncode == 0, first.stdout + (tmp_path / "airbench-0.out").read_text()
    assert "2 of 2 cells are done" in first.stdout and first.stdout.count("rc 0") == 2
    record = json.loads((tmp_path / "airbench-0" / "result.json").read_text())
    by_hand = json.loads((tmp_path / "airbench_by_hand-0.out").read_text().splitlines()[-1])
    assert record["plan"]["steps"] == by_hand["steps"] == 2
    again = suite(str(tmp_path), "--tiny", "--only", "airbench")
    assert again.stdout == "2 of 2 cells are done\n"
    listed = suite(str(tmp_path), "--tiny", "--list").stdout
    assert listed.count("done ") == 2 and listed.count("to do ") == len(gpu_suite.cells(tiny=True)) - 2


def test_a_cell_that_fails_or_hangs_is_noted_and_tried_again(tmp_path):
    failing = gpu_suite.Cell("failing", [sys.executable, "-c", "raise SystemExit(3)"], 0.1)
    hanging = gpu_suite.Cell("hanging", [sys.executable, "-c", "import time; time.sleep(60)"], 0.1)
    assert gpu_suite.measure(tmp_path, failing, 30)["rc"] == 3
    assert gpu_suite.measure(tmp_path, hanging, 0.5)["rc"] == 124
    assert not gpu_suite.is_done(tmp_path, failing) and not gpu_suite.is_done(tmp_path, hanging)


def test_a_run_that_was_killed_is_measured_anew(tmp_path):
    (run,) = (cell for cell in gpu_suite.cells(tiny=True) if cell.name == "sprint-0")
    (tmp_path / "sprint-0").mkdir()
    (tmp_path / "sprint-0/result.json").write_text('{"schema": 1, "status": "failed", "config_hash": "another"}')
    assert gpu_suite.measure(tmp_path, run, 120)["rc"] == 0, (tmp_path / "sprint-0.out").read_text()


def test_the_loop_by_hand_is_the_same_arithmetic(tmp_path):
    words = ["arch=airbench", "size=nano", "recipe=plain", "ingredient=[freeze]", "budget=3steps", "data=sample"]
    words += ["recipe.repeats=2", "recipe.clip_grad=0.1", "recipe.batch_size=64", "threads=1", "data.holdout=400"]
    record = minuteloop.run([*words, "logger=none", f"hydra.run.dir={tmp_path / 'run'}"])
    command = [sys.executable, str(SCRIPTS / "by_hand.py"), *words]
    row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert row["test_acc"] == pytest.approx(record["metrics"]["test/acc"], abs=1e-6)
    assert row["steps"] == 3 and 0 < row["train_seconds"] < 60


def test_what_does_not_fit_into_the_call_is_left_for_the_next(tmp_path):
    told = suite(str(tmp_path), "--minutes", "0.01", "--only", "convnext").stdout
    assert told.startswith("0 of 6 cells are done; to do: convnext_deit-0, ") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("tiny", [True, False])
def test_every_cell_has_a_name_of_its_own_and_fits_a_call(tiny):
    found = gpu_suite.cells(tiny)
    assert len({cell.name for cell in found}) == len(found) and all(cell.minutes <= 8 for cell in found)
    assert sum(cell.name.startswith("airbench-") for cell in found) == (1 if tiny else 10)


def test_a_loop_by_hand_refuses_what_it_cannot():
    done = subprocess.run([sys.executable, str(SCRIPTS / "by_hand.py"), "budget=60s"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "error: budget=60s: a loop by hand takes steps or epochs\n"
