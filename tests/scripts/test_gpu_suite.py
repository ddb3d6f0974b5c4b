"""gpu_suite.py on a CPU: finished cells are skipped, failed ones are repeated."""

import json
import subprocess
import sys
from pathlib import Path

import gpu_suite
import pytest

SCRIPTS = Path(gpu_suite.__file__).parent


def suite(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPTS / "gpu_suite.py"), *words], capture_output=True, text=True)


@pytest.mark.exhaustive
def test_a_run_and_the_bare_loop_are_measured_once(tmp_path):
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


def test_a_cell_that_fails_or_hangs_is_recorded_and_repeated(tmp_path):
    failing = gpu_suite.Cell("failing", [sys.executable, "-c", "raise SystemExit(3)"], 0.1)
    hanging = gpu_suite.Cell("hanging", [sys.executable, "-c", "import time; time.sleep(60)"], 0.1)
    assert gpu_suite.measure(tmp_path, failing, 30)["rc"] == 3
    assert gpu_suite.measure(tmp_path, hanging, 0.5)["rc"] == 124
    assert not gpu_suite.is_done(tmp_path, failing) and not gpu_suite.is_done(tmp_path, hanging)
    assert gpu_suite.run([failing], tmp_path, minutes=1, tiny=True) == 1, "run again, failed again"


@pytest.mark.exhaustive
def test_a_killed_run_is_repeated_from_the_start(tmp_path):
    (run,) = (cell for cell in gpu_suite.cells(tiny=True) if cell.name == "sprint-0")
    (tmp_path / "sprint-0").mkdir()
    (tmp_path / "sprint-0/result.json").write_text('{"schema": 1, "status": "failed", "config_hash": "another"}')
    assert gpu_suite.measure(tmp_path, run, 120)["rc"] == 0, (tmp_path / "sprint-0.out").read_text()


def test_a_cell_that_does_not_fit_the_call_is_left_for_the_next(tmp_path):
    output = suite(str(tmp_path), "--minutes", "0.01", "--only", "convnext").stdout
    assert output.startswith("0 of 6 cells are done; to do: convnext_deit-0, ") and not list(tmp_path.iterdir())


def test_an_unknown_cell_is_a_usage_error(tmp_path):
    done = suite(str(tmp_path / "out"), "--only", "vgg")
    assert done.returncode == 2 and "--only vgg: no cell starts with it" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tiny", [True, False])
def test_cells_have_unique_names_and_fit_a_call(tiny):
    cells = gpu_suite.cells(tiny)
    assert len({cell.name for cell in cells}) == len(cells) and all(cell.minutes <= 8 for cell in cells)
    assert sum(cell.name.startswith("airbench-") for cell in cells) == (1 if tiny else 10)
    assert {cell.name.removeprefix("bench_") for cell in cells if cell.name.startswith("bench_")} == set(
        gpu_suite.BENCHES
    )
