"""The table of a sweep, from notes and records written here by hand."""

import json

from minuteloop.study.cell import Cell, cells, table


def cell(sweep, number, words, folder, status="finished", accuracy=None, error=None):
    folder.mkdir(parents=True)
    metrics = {"test/acc": 0.99} if accuracy is None else {"test/acc": 0.99, "val/acc": accuracy}
    content = {"status": status, "error": error, "metrics": metrics, "seconds": {"train": 10.0 + number}}
    (folder / "result.json").write_text(json.dumps(content))
    Cell(number, words.split(), folder).save(sweep)


def test_rows_and_their_means_over_seeds(tmp_path):
    sweep = tmp_path / "runs/now"
    for seed, accuracy in enumerate((0.50, 0.60, 0.70)):
        folder = tmp_path / "runs/before" / "a-2" if seed == 2 else sweep / f"a-{seed}"
        cell(sweep, seed, f"arch=a seed={seed} budget=5s", folder, accuracy=accuracy)
    cell(sweep, 3, "arch=b seed=0 budget=5s", sweep / "b-3", accuracy=0.25)
    cell(sweep, 4, "arch=b seed=1 budget=5s", sweep / "b-4", "overrun", accuracy=0.75)
    cell(sweep, 5, "arch=b seed=2 budget=5s", sweep / "b-5", "failed", error="ValueError: a | b")
    Cell(6, ["arch=b", "seed=3", "budget=5s"], sweep / "b-6", "killed").save(sweep)
    Cell(10, ["arch=b", "seed=4", "budget=5s"], sweep / "b-10", "not run").save(sweep)
    found = cells(sweep)
    assert [one.failure() for one in found[:5]] == [None] * 5
    lines = [" ".join(line.split()) for line in table(found, sweep).splitlines()]
    assert lines[0] == "## now" and lines[2] == "All with `budget=5s`."
    assert lines[6:14] == [
        "| arch=a seed=0 | 50.00 % | 10.0 s | finished | a-0 |",
        "| arch=a seed=1 | 60.00 % | 11.0 s | finished | a-1 |",
        "| arch=a seed=2 | 70.00 % | 12.0 s | finished, reused | ../before/a-2 |",
        "| arch=b seed=0 | 25.00 % | 13.0 s | finished | b-3 |",
        "| arch=b seed=1 | 75.00 % | 14.0 s | overrun | b-4 |",
        "| arch=b seed=2 | - | 15.0 s | failed: ValueError: a \\| b | b-5 |",
        "| arch=b seed=3 | - | - | failed: killed | b-6 |",
        "| arch=b seed=4 | - | - | not run | b-10 |",
    ]
    # an overrun is left out; one finished run has no spread
    assert lines[-2:] == ["| arch=a | 60.00 ± 10.00 % | 3 | 11.0 s |", "| arch=b | 25.00 % | 1 of 5 | 13.0 s |"]


def test_one_cell_and_cells_without_validation(tmp_path):
    cell(tmp_path, 0, "data.holdout=0", tmp_path / "a-0")
    lines = table(cells(tmp_path), tmp_path).splitlines()
    assert len(lines) == 5 and lines[4].split("|")[1:3] == [" data.holdout=0 ", " -       "]


def test_cells_that_differ_in_nothing_but_the_seed(tmp_path):
    for seed in (0, 1):
        cell(tmp_path, seed, f"seed={seed}", tmp_path / f"a-{seed}", accuracy=0.5)
    assert "| all        | 50.00 ± 0.00 % | 2 | 10.5 s   |" in table(cells(tmp_path), tmp_path)


def test_a_run_that_stands_for_two_cells_counts_once(tmp_path):
    for seed in (0, 1):
        cell(tmp_path, seed, f"lr=1 seed={seed}", tmp_path / f"a-{seed}", accuracy=0.5 + seed / 10)
    Cell(2, ["lr=1", "seed=1"], tmp_path / "a-1").save(tmp_path)
    assert "| all        | 55.00 ± 7.07 % | 2 | 10.5 s   |" in table(cells(tmp_path), tmp_path)
    (tmp_path / "cells/0.json").unlink()
    assert "over seeds" not in table(cells(tmp_path), tmp_path)
