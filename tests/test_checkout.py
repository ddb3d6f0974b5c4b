"""A copy of the checkout runs its own code and configs, whichever one is installed or on PYTHONPATH."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENTRIES = ["train.py", *(f"scripts/{file.name}" for file in sorted((ROOT / "scripts").glob("*.py")))]
ENTRIES = [entry for entry in [*ENTRIES, "scripts/benches/startup.py"] if "minuteloop" in (ROOT / entry).read_text()]
SMALL = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "size.reduce=32", "recipe=plain"]
QUICK = [
    *SMALL,
    "data=sample",
    "logger=none",
    "logger.pictures=false",
    "recipe.batch_size=64",
    "budget=1steps",
    "threads=1",
]


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the checkout."""
    copy = tmp_path / "copy"
    for name in ("conf", "recipes", "scripts", "src"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", copy)
    return copy


def run(copy: Path, *command: str) -> subprocess.CompletedProcess:
    """Run a Python command in the copy while another checkout is on PYTHONPATH."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "MINUTELOOP_SPAWNED": "0"}
    return subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("entry", ENTRIES)
def test_script_of_a_copy_imports_the_copys_code(copy, entry):
    (copy / "src/minuteloop/__init__.py").write_text("raise SystemExit('the copy')\n")
    assert run(copy, entry).stderr == "the copy\n"


def test_train_of_a_copy_composes_the_copys_configs(copy):
    file = copy / "conf/config.yaml"
    file.write_text(file.read_text() + "\nseed: 4321\n")
    assert "\n  seed=4321 " in run(copy, "train.py", "--help").stdout


def test_cells_of_a_copys_sweep_run_the_copys_code(copy):
    file = copy / "src/minuteloop/training/classifier.py"
    file.write_text(
        file.read_text().replace("lower recipe.lr", "this is the copy").replace("LOG_EVERY = 50", "LOG_EVERY = 1")
    )
    done = run(copy, "train.py", "-m", *QUICK, "recipe.lr=1e6", "budget=3steps")
    assert done.returncode == 1, done.stderr
    (record,) = copy.glob("runs/*/*/result.json")
    assert "this is the copy" in json.loads(record.read_text())["error"]
