"""A terminal that goes away costs a run its output, never its result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import SMALL, TRAIN

import minuteloop

QUICK = [*SMALL, "evaluations=1", "budget=3steps"]
COMMAND = [*TRAIN, *QUICK]
SWEEP = [*TRAIN, "-m", *QUICK, "seed=0,1"]

WITHOUT_TERMINAL = """
import contextlib, os, sys
from minuteloop.records.terminal import drop_lost_output
drop_lost_output()
drop_lost_output()
file = open("mine", "w")
assert file.fileno() > 2
with contextlib.suppress(OSError):
    os.write(2, b"of a C library")
for stream in (sys.stdout, sys.stderr):
    print("± 1\\n" * 10_000, file=stream)
    stream.flush()
sys.exit(3)
"""


def shell(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run "$@" with the redirections of a shell script."""
    environment = os.environ | {"PYTHONPATH": str(Path(minuteloop.__file__).parents[1])}
    command = ["sh", "-c", script, "sh", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)


LOST = [">/dev/full 2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-", "2>&-", ">&-", "2>&1 | true"]


@pytest.mark.parametrize("redirection", LOST)
def test_output_is_dropped_and_the_exit_code_stays(tmp_path, redirection):
    script = '{ "$@"; echo $? >code; } ' + redirection
    shell(script, sys.executable, "-c", WITHOUT_TERMINAL, cwd=tmp_path)
    assert (tmp_path / "code").read_text() == "3\n"
    assert (tmp_path / "mine").read_bytes() == b"", "no file got the number of a closed descriptor"


def test_characters_that_the_terminal_lacks_are_escaped(tmp_path):
    done = shell('PYTHONIOENCODING=ascii "$@"', sys.executable, "-c", WITHOUT_TERMINAL, cwd=tmp_path)
    assert done.stdout.startswith("\\xb1 1\n")


def test_streams_that_a_program_has_replaced_are_left_alone(capsys):
    from minuteloop.records.terminal import drop_lost_output

    streams = sys.stdout, sys.stderr
    drop_lost_output()
    assert (sys.stdout, sys.stderr) == streams


def assert_finished(folder: Path) -> None:
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    assert "finished" in (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    "redirection",
    [
        pytest.param(lost, marks=() if lost == "<&- >&- 2>&-" else pytest.mark.exhaustive)
        for lost in LOST
        if "|" not in lost
    ],
)
def test_run_without_terminal_finishes(tmp_path, redirection):
    done = shell(f'exec "$@" {redirection}', *COMMAND, "hydra.run.dir=mine", cwd=tmp_path)
    assert done.returncode == 0
    assert_finished(tmp_path / "mine")


def on_a_lost_terminal(command: list[str], cwd: Path, first: str) -> int:
    """Run a command on a terminal that goes away once `first` is printed; return its exit code."""
    ours, theirs = os.openpty()
    with subprocess.Popen(command, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        printed = b""
        while first.encode() not in printed and (data := os.read(ours, 1000)):
            printed += data
        os.close(ours)
        return process.wait(timeout=300)


def test_run_survives_its_terminal(tmp_path):
    """The progress bar is on it too."""
    command = [*COMMAND, "budget=30steps", "hydra.run.dir=mine"]
    assert on_a_lost_terminal(command, tmp_path, "record: ") == 0
    assert_finished(tmp_path / "mine")


@pytest.mark.exhaustive
def test_failed_run_on_a_lost_terminal_has_its_exit_code(tmp_path):
    command = [*COMMAND, "recipe=plain", "recipe.lr=1e6", "budget=30steps", "hydra.run.dir=mine"]
    assert on_a_lost_terminal(command, tmp_path, "record: ") == 1
    assert json.loads((tmp_path / "mine/result.json").read_text())["status"] == "failed"


def test_cells_of_a_sweep_survive_its_terminal(tmp_path):
    assert on_a_lost_terminal(SWEEP, tmp_path, "seed=0") == 0
    cells = [path.parent for path in tmp_path.glob("runs/*/*/result.json")]
    assert len(cells) == 2
    for cell in cells:
        assert_finished(cell)
    (report,) = tmp_path.glob("runs/*/report.md")
    assert report.read_text().startswith("2 runs of ")


@pytest.mark.exhaustive
@pytest.mark.parametrize("redirection", [">/dev/full 2>/dev/full", ">&- 2>&-"])
def test_sweep_without_terminal_finishes(tmp_path, redirection):
    assert shell(f'exec "$@" {redirection}', *SWEEP, cwd=tmp_path).returncode == 0
    assert len([*tmp_path.glob("runs/*/*/model.safetensors")]) == 2
