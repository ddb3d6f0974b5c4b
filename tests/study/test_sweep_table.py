"""The table of a sweep, from notes and records written by hand."""

import json

from minuteloop.study.cell import Cell, read_cells
from minuteloop.study.sweep_table import sweep_table


def write_cell(sweep, number, overrides, folder, status="finished", accuracy=None, error=None):
    """Write a cell's note, and a record of 1000 + number steps at 500 images/s, 10 + number seconds of training."""
    folder.mkdir(parents=True)
    metrics = {"test/acc": 0.99} if accuracy is None else {"test/acc": 0.99, "val/acc": accuracy}
    content = {
        "status": status,
        "error": error,
        "steps": 1000 + number,
        "metrics": metrics,
        "seconds": {"train": 10.0 + number},
        "cost": {"images_per_second": 500.0},
    }
    (folder / "result.json").write_text(json.dumps(content))
    Cell(number, overrides.split(), folder).save(sweep)


def squeezed(table: str) -> str:
    """Return a table without the padding of its columns."""
    return "\n".join(" ".join(line.split()) for line in table.splitlines())


def test_rows_of_cells_and_means_over_seeds(tmp_path):
    sweep = tmp_path / "runs/now"
    for seed, accuracy in enumerate((0.50, 0.60, 0.70)):
        folder = tmp_path / "runs/before" / "a-2" if seed == 2 else sweep / f"a-{seed}"
        write_cell(sweep, seed, f"arch=a seed={seed} budget=5s", folder, accuracy=accuracy)
    write_cell(sweep, 3, "arch=b seed=0 budget=5s", sweep / "b-3", accuracy=0.25)
    write_cell(sweep, 4, "arch=b seed=1 budget=5s", sweep / "b-4", "overrun", accuracy=0.75)
    write_cell(sweep, 5, "arch=b seed=2 budget=5s", sweep / "b-5", "failed", error="ValueError: a | b")
    Cell(6, ["arch=b", "seed=3", "budget=5s"], sweep / "b-6", "killed").save(sweep)
    Cell(10, ["arch=b", "seed=4", "budget=5s"], sweep / "b-10", "not run").save(sweep)
    cells = read_cells(sweep)
    assert [cell.failure() for cell in cells[:5]] == [None] * 5
    lines = squeezed(sweep_table(cells, sweep)).splitlines()
    assert lines[0] == "## now" and lines[2] == "All with `budget=5s`."
    assert lines[6:14] == [
        "| arch=a seed=0 | 50.00 % | 1,000 | 500 | 10.0 s | finished | a-0 |",
        "| arch=a seed=1 | 60.00 % | 1,001 | 500 | 11.0 s | finished | a-1 |",
        "| arch=a seed=2 | 70.00 % | 1,002 | 500 | 12.0 s | finished, reused | ../before/a-2 |",
        "| arch=b seed=0 | 25.00 % | 1,003 | 500 | 13.0 s | finished | b-3 |",
        "| arch=b seed=1 | 75.00 % | 1,004 | 500 | 14.0 s | overrun | b-4 |",
        "| arch=b seed=2 | - | 1,005 | 500 | 15.0 s | failed: ValueError: a \\| b | b-5 |",
        "| arch=b seed=3 | - | - | - | - | failed: killed | b-6 |",
        "| arch=b seed=4 | - | - | - | - | not run | b-10 |",
    ]
    # an overrun is left out; one finished run has no std
    assert lines[-2:] == [
        "| arch=a | 60.00 ± 10.00 % | 3 | 1,000 to 1,002 | 500 | 11.0 s |",
        "| arch=b | 25.00 % | 1 of 5 | 1,003 | 500 | 13.0 s |",
    ]


def test_single_cell_without_validation_has_no_accuracy_and_no_second_table(tmp_path):
    write_cell(tmp_path, 0, "data.holdout=0", tmp_path / "a-0")
    lines = sweep_table(read_cells(tmp_path), tmp_path).splitlines()
    assert len(lines) == 5 and lines[4].split("|")[1:3] == [" data.holdout=0 ", " -       "]


def test_cells_that_differ_in_the_seed_only_are_one_group(tmp_path):
    for seed in (0, 1):
        write_cell(tmp_path, seed, f"seed={seed}", tmp_path / f"a-{seed}", accuracy=0.5)
    assert "| all | 50.00 ± 0.00 % | 2 | 1,000 to 1,001 | 500 | 10.5 s |" in squeezed(
        sweep_table(read_cells(tmp_path), tmp_path)
    )


def test_run_reused_by_two_cells_counts_once(tmp_path):
    for seed in (0, 1):
        write_cell(tmp_path, seed, f"lr=1 seed={seed}", tmp_path / f"a-{seed}", accuracy=0.5 + seed / 10)
    Cell(2, ["lr=1", "seed=1"], tmp_path / "a-1").save(tmp_path)
    assert "| all | 55.00 ± 7.07 % | 2 | 1,000 to 1,001 | 500 | 10.5 s |" in squeezed(
        sweep_table(read_cells(tmp_path), tmp_path)
    )
    (tmp_path / "cells/0.json").unlink()
    assert "over seeds" not in sweep_table(read_cells(tmp_path), tmp_path)
