"""A task that its launcher restarts, after a time limit or on another node: finished cells are kept, others resume."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import TRAIN, descendants

import minuteloop
from minuteloop.records.record import config_hash
from minuteloop.study import train_cell
from minuteloop.study.cell import Cell
from minuteloop.training import resume

QUICK = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "size.reduce=32", "recipe=plain", "data=sample"]
QUICK += ["logger=none", "logger.pictures=false", "recipe.batch_size=64", "evaluations=1"]


@pytest.fixture(scope="module")
def config():
    return minuteloop.compose(QUICK)


@pytest.fixture
def sweep(tmp_path):
    """The folder of a sweep, with none beside it."""
    return tmp_path / "runs/now"


def start_again(sweep: Path, config, monkeypatch) -> tuple[Cell, list]:
    """Start cell 0 of a sweep; return it, and the arguments with which it was trained."""
    started = []
    monkeypatch.setattr(train_cell, "train_in_process", lambda *args: started.append(args) or "exit code 1")
    progress = contextlib.nullcontext()
    cell = train_cell.train_or_reuse(Cell(0, [], sweep / "cell-0"), config, sweep, sweep / "stop", progress)
    return cell, started


def write_started(sweep: Path, config, status: str) -> Path:
    """Write the note of cell 0, and its record, as of an earlier task; return the record's folder."""
    folder = sweep / "cell-0-again"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"schema": 1, "status": status, "config_hash": config_hash(config)}))
    Cell(0, [], folder, error="killed", again="the code has changed since").save(sweep)
    return folder


@pytest.mark.parametrize("status", ["finished", "overrun"])
def test_cell_that_ended_stays_on_whatever_machine_the_task_starts_again(config, status, monkeypatch, sweep):
    folder = write_started(sweep, config, status)
    cell, started = start_again(sweep, config, monkeypatch)
    assert not started and cell.folder == folder


@pytest.mark.parametrize("status", ["failed", "interrupted"])
@pytest.mark.parametrize("rerun", [False, True])
def test_cell_that_was_interrupted_resumes_in_its_folder(status, rerun, monkeypatch, sweep):
    """A record says failed while its run trains, and after kill -9."""
    config = minuteloop.compose([*QUICK, f"rerun={rerun}"])
    folder = write_started(sweep, config, status)
    monkeypatch.setattr(resume, "read_record", lambda *_: json.loads((folder / "result.json").read_text()))
    cell, started = start_again(sweep, config, monkeypatch)
    assert (started[0][0].resume, started[0][1]) == (True, folder)
    assert cell.folder == folder and cell.again == "the code has changed since"


def test_cell_that_had_no_record_yet_starts_in_its_folder(config, monkeypatch, sweep):
    Cell(0, [], sweep / "cell-0", error="killed").save(sweep)
    _, started = start_again(sweep, config, monkeypatch)
    assert (started[0][0].resume, started[0][1]) == (False, sweep / "cell-0")


def test_cell_waits_for_the_process_of_the_dead_task_that_still_saves(config, monkeypatch, sweep):
    folder = write_started(sweep, config, "failed")
    locked, ended = threading.Event(), []

    def save():
        with resume.locked(folder):
            locked.set()
            time.sleep(0.5)
            ended.append(time.monotonic())

    threading.Thread(target=save).start()
    locked.wait()
    record = json.loads((folder / "result.json").read_text())
    monkeypatch.setattr(resume, "read_record", lambda *_: record)
    _, started = start_again(sweep, config, monkeypatch)
    assert ended and started[0][1] == folder


@pytest.mark.exhaustive
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR2])
def test_task_that_slurm_ends_leaves_a_checkpoint_and_no_result(tmp_path, signum):
    """Slurm sends the signal to every process of the task, also to the one that cells are forked from."""
    command = [sys.executable, TRAIN, "-m", *QUICK, "budget=100000steps", "hydra.sweep.dir=sweep"]
    folder = tmp_path / "sweep/resnet18-plain-0"
    environment = os.environ | {"SLURM_JOB_ID": "7"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as task:
        while task.poll() is None and not (folder / "metrics.csv").exists():
            time.sleep(0.1)
        time.sleep(1.0)
        for process in descendants(task.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signum)
        output, _ = task.communicate(timeout=60)
    assert task.returncode == 128 + signum, output
    record = json.loads((folder / "result.json").read_text())
    assert (record["status"], record["error"]) == ("interrupted", f"Stopped: {signum.name}")
    assert (folder / "last.ckpt").exists()
