"""Reads the W&B runs that a test has logged offline."""

import csv
import json
import subprocess
import sys
from pathlib import Path

from minuteloop.records.metrics_csv import COLUMNS

SMALLEST = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "recipe.batch_size=32"]
QUICK = [*SMALLEST, "data=sample", "threads=1", "evaluations=2", "hydra.run.dir=mine"]


def read(file: Path) -> dict[str, list[dict]]:
    """Return the records of a .wandb file by type, read with W&B's own reader."""
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    records: dict[str, list[dict]] = {}
    for line in map(json.loads, done.stdout.splitlines()):
        records.setdefault(line["type"], []).append(line.get(line["type"]))
    return records


def wandb_records(folder: Path) -> dict[str, list[dict]]:
    """Return the records of the one offline run in `folder`."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return read(file)


def logged_points(records: dict[str, list[dict]]) -> dict[tuple[int, str], float]:
    """Return the curves that W&B has: (step, metric) -> value."""
    return {
        (int(entry["item"]["trainer/global_step"]), name): value
        for entry in records["history"]
        for name, value in entry["item"].items()
        if name in COLUMNS
    }


def written_points(folder: Path) -> dict[tuple[int, str], float]:
    """Return the curves in metrics.csv that other loggers have too: (step, metric) -> value."""
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    metrics = [name for name in rows[0] if name not in ("step", "seconds")]
    return {(int(row["step"]), name): float(row[name]) for row in rows for name in metrics if row[name]}
