"""The table of a sweep, from notes and records written by hand."""

import statistics

import pytest
from written_cells import write_cell

from minuteloop.study.cell import Cell, read_cells
from minuteloop.study.sweep_table import sweep_table

WIDEST = 160  # characters, where all columns but one differ


def squeezed(sweep) -> list[str]:
    """Return the lines of a sweep's table without the padding of its columns."""
    return [" ".join(line.split()) for line in sweep_table(read_cells(sweep), sweep).splitlines()]


def test_rows_of_cells_and_means_over_seeds(tmp_path):
    sweep = tmp_path / "runs/now"
    for seed, accuracy in enumerate((0.50, 0.60, 0.70)):
        folder = tmp_path / "runs/before" / "b-7" if seed == 2 else None
        write_cell(sweep, seed, f"seed={seed} arch=a budget=5s", folder, accuracy=accuracy)
    write_cell(sweep, 3, "seed=0 arch=b budget=5s", accuracy=0.25)
    write_cell(sweep, 4, "seed=1 arch=b budget=5s", status="overrun", accuracy=0.75)
    write_cell(sweep, 5, "seed=2 arch=b budget=5s", status="failed", error="ValueError: a | b", steps=0, cost={})
    Cell(6, ["seed=3", "arch=b", "budget=5s"], sweep / "b-6", "killed").save(sweep)
    Cell(10, ["seed=4", "arch=b", "budget=5s"], sweep / "b-10", "not run").save(sweep)
    assert [cell.failure() for cell in read_cells(sweep)[:5]] == [None] * 5
    lines = squeezed(sweep)
    assert lines[0] == "## now" and lines[2] == "All with `budget=5s`."
    machine = "EPYC (family 25, model 1), cpu, 2 threads, fp32, torch 2.14.1, timm 1.0.31"
    figures = "epochs 2.50; strength off: mixup; lr 0.002; params 0.57 M; MACs 12.3 M"
    assert lines[4] == f"In all rows: {figures}; on {machine}."
    assert lines[6] == "| # | cell | val/acc | steps | training | images/s | status |"
    assert lines[8:16] == [
        "| 0 | arch=a seed=0 | 50.00 % | 1,000 | 10.0 s | 500 | finished |",
        "| 1 | arch=a seed=1 | 60.00 % | 1,001 | 10.1 s | 500 | finished |",
        "| 2 | arch=a seed=2 | 70.00 % | 1,002 | 10.2 s | 500 | finished, reused |",
        "| 3 | arch=b seed=0 | 25.00 % | 1,003 | 10.3 s | 500 | finished |",
        "| 4 | arch=b seed=1 | 75.00 % | 1,004 | 10.4 s | 500 | overrun |",
        "| 5 | arch=b seed=2 | - | - | - | - | failed: ValueError: a \\| b |",
        "| 6 | arch=b seed=3 | - | - | - | - | failed: killed |",
        "| 10 | arch=b seed=4 | - | - | - | - | not run |",
    ]
    # an overrun is left out; one finished run has no std
    std = 100 * statistics.stdev([0.5, 0.6, 0.7])
    assert lines[17:] == [
        "| over seeds | val/acc | n | steps | training | images/s |",
        lines[18],
        f"| arch=a | 60.00 ± {std:.2f} % | 3 | 1,000 to 1,002 | 10.1 s | 500 |",
        "| arch=b | 25.00 % | 1 of 3 | 1,003 | 10.3 s | 500 |",
        "",
        "- in ../before: cell 2 is b-7",
    ]


def test_columns_in_which_cells_differ_stay(tmp_path):
    for number, strength in enumerate(({}, {"mixup": 0.0, "cutmix": 0.0}, {"mixup": 0.45, "cutmix": 1.0})):
        plan = {"strength": strength, "lr": 0.1 + number, "epochs": 2.0 + number}
        cost = {"params": 10**6 * number, "macs": 10**9 * (number + 1)}
        write_cell(tmp_path, number, f"arch={number}", plan=plan, cost=cost)
    lines = squeezed(tmp_path)
    header = "| # | cell | val/acc | steps | epochs | training | images/s | lr | params | MACs | strength | status |"
    assert lines[4] == header
    assert lines[6:] == [
        "| 0 | arch=0 | - | 1,000 | 2.00 | 10.0 s | 500 | 0.1 | 0.00 M | 1,000.0 M | none | finished |",
        "| 1 | arch=1 | - | 1,001 | 3.00 | 10.1 s | 500 | 1.1 | 1.00 M | 2,000.0 M | off: mixup, cutmix | finished |",
        "| 2 | arch=2 | - | 1,002 | 4.00 | 10.2 s | 500 | 2.1 | 2.00 M | 3,000.0 M | at 45%: mixup | finished |",
    ]


def test_runs_of_different_machines_are_never_averaged_and_the_rows_say_what_differs(tmp_path):
    gpu = {"host": {"gpu": "NVIDIA A100"}, "config": {"device": "cuda"}, "versions": {"torch": "2.9"}}
    for seed in range(4):
        write_cell(tmp_path, seed, f"seed={seed}", accuracy=0.5 + seed / 10, **(gpu if seed == 3 else {}))
    lines = squeezed(tmp_path)
    here = "EPYC (family 25, model 1), torch 2.14.1"
    assert "| 0 | seed=0 | EPYC (family 25, model 1), torch 2.14.1 | 50.00 % |" in lines[6]
    assert "| 3 | seed=3 | NVIDIA A100, torch 2.9 | 80.00 % |" in lines[9]
    assert [line.partition(" % |")[0] for line in lines[13:]] == [
        f"| all | {here} | 60.00 ± 10.00",
        "| all | NVIDIA A100, torch 2.9 | 80.00",
    ]
    assert " on " not in lines[2]


@pytest.mark.parametrize("key", ["device", "threads", "precision"])
def test_each_part_of_a_machine_keeps_runs_apart(tmp_path, key):
    write_cell(tmp_path, 0, "seed=0", accuracy=0.5)
    write_cell(tmp_path, 1, "seed=1", accuracy=0.6, config={key: 4 if key == "threads" else "other"})
    assert not any("±" in line for line in squeezed(tmp_path)) and len(squeezed(tmp_path)) == 13


def test_doubtful_rates_are_named_below_the_table(tmp_path):
    busy = {"rate": {"busy": "0.4 of 2 cores were idle"}}
    write_cell(tmp_path, 0, "arch=a", accuracy=0.5, **busy)
    write_cell(tmp_path, 1, "arch=b", accuracy=0.5, seconds={"train": 5.0})
    write_cell(tmp_path, 2, "arch=c", accuracy=0.5, seconds={"train": 16.0}, again="the code has changed since")
    write_cell(tmp_path, 3, "arch=d", accuracy=0.5, seconds={"train": 12.4})
    write_cell(tmp_path, 4, "arch=e", accuracy=0.5, seconds={"train": 99.0}, plan={"seconds_asked": None})
    assert squeezed(tmp_path)[-4:] == [
        "- cell 2 was run again: the code has changed since",
        "- arch=a: its rate was measured on a busy machine (0.4 of 2 cores were idle); rerun=true measures it again",
        "- arch=b: seed=1 trained 2.0 times as fast as the rate measured; rerun=true measures it again",
        "- arch=c: seed=2 trained 0.6 times as fast as the rate measured; rerun=true measures it again",
    ]


def test_table_fits_a_wide_terminal(tmp_path):
    for number in range(12):
        arch = ("convnext", "mobilenetv2")[number % 2]
        plan = {"lr": 0.0021 * (1 + number % 2), "epochs": 2 + number % 2}
        cost = {"params": 570_000 * (1 + number % 2)}
        overrides = f"seed={number // 2} arch={arch} recipe.batch.mixup.alpha=0.{number % 2}"
        write_cell(tmp_path, number, overrides, accuracy=0.5, plan=plan, cost=cost)
    assert max(map(len, sweep_table(read_cells(tmp_path), tmp_path).splitlines())) <= WIDEST


def test_single_cell_without_validation_has_no_accuracy_and_no_second_table(tmp_path):
    write_cell(tmp_path, 0, "data.holdout=0")
    lines = squeezed(tmp_path)
    assert len(lines) == 7 and lines[6].startswith("| 0 | data.holdout=0 | - | 1,000 |")


def test_cells_that_differ_in_the_seed_only_are_one_group(tmp_path):
    for seed in (0, 1):
        write_cell(tmp_path, seed, f"seed={seed}", accuracy=0.5)
    assert "| all | 50.00 ± 0.00 % | 2 | 1,000 to 1,001 | 10.1 s | 500 |" in squeezed(tmp_path)


def test_run_reused_by_two_cells_counts_once(tmp_path):
    for seed in (0, 1):
        write_cell(tmp_path, seed, f"lr=1 seed={seed}", accuracy=0.5 + seed / 10)
    Cell(2, ["lr=1", "seed=1"], tmp_path / "a-1").save(tmp_path)
    assert "| all | 55.00 ± 7.07 % | 2 | 1,000 to 1,001 | 10.1 s | 500 |" in squeezed(tmp_path)
    (tmp_path / "cells/0.json").unlink()
    assert "over seeds" not in "\n".join(squeezed(tmp_path))
