"""Small sweeps on the command line, whose cells are compared by their weights."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from command_line import TRAIN

CELL = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "size.reduce=32", "recipe=plain", "data=sample"]
CELL += ["logger=none", "logger.pictures=false", "recipe.batch_size=64", "evaluations=1"]
SECONDS = 600  # that a sweep of these tests takes at most


def start_sweep(cwd: Path, *overrides: str, **environment: str) -> subprocess.Popen:
    """Start `python train.py -m` with CELL and more overrides in `cwd`, with one thread a cell."""
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    cwd.mkdir(parents=True, exist_ok=True)
    log = (cwd / "log.txt").open("w")
    command = [sys.executable, TRAIN, "-m", *CELL, *overrides]
    return subprocess.Popen(command, cwd=cwd, env=variables, stdout=log, stderr=subprocess.STDOUT)


def results(cwd: Path, sweep: subprocess.Popen) -> dict[float, str]:
    """Wait for a sweep to succeed; return the hash of each cell's weights by its learning rate."""
    code = sweep.wait(SECONDS)
    output = (cwd / "log.txt").read_text()
    assert code == 0, output
    found = {}
    for path in cwd.glob("runs/*/*/result.json"):
        record = json.loads(path.read_text())
        assert record["status"] == "finished", output
        weights = (path.parent / "model.safetensors").read_bytes()
        found[record["config"]["recipe"]["lr"]] = hashlib.sha256(weights).hexdigest()
    return found


def wait_for(condition: Callable[[], object], seconds: float = 300.0) -> object:
    """Return what `condition` returns as soon as that is true."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.2)
    return found


def has_checkpoint(cwd: Path) -> bool:
    """Return whether a cell of the sweep has left a checkpoint."""
    return any(cwd.glob("runs/*/*/last.ckpt"))


def has_resumed(cwd: Path) -> bool:
    """Return whether a cell of the sweep has continued from its checkpoint."""
    return any("attempt 2: continuing after step" in log.read_text() for log in cwd.glob("runs/*/*/log.txt"))
