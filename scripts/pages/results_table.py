"""The table of published runs in the README, from their records in recipes/."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from pages.answers import RECORDS
from pages.markdown_table import markdown_table

from minuteloop.records.machine import machine_of, machine_words
from minuteloop.records.summary import strength_words

HEADER = (
    *("run", "test accuracy", "with TTA", "n", "steps", "epochs", "strength", "training", "images/s"),
    *("params", "MACs", "hardware", "measured", "command"),
)


def results_table(recipes: Path) -> str:
    """Return the table, with a row of mean ± std for each folder of records but a study's.

    Raises ValueError where the records of one folder are of different configs, code or hardware.
    """
    folders = [folder for folder in sorted(recipes.iterdir()) if any(folder.glob("*.json"))]
    runs = {folder.name: _finished(folder) for folder in folders if not (folder / RECORDS).exists()}
    rows = [_row(name, records) for name, records in runs.items()]
    gpus = any(record["host"].get("gpu") for records in runs.values() for record in records)
    return markdown_table(HEADER, rows) + ("" if gpus else "\n\nNot measured on a GPU yet.")


def _finished(folder: Path) -> list[dict]:
    """Return the finished records of a folder.

    Raises ValueError unless all are of one config, code and machine, and each of a seed of its own.
    """
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    finished = [record for record in records if record["status"] == "finished"]
    if not finished:
        raise ValueError(f"{folder}: no finished record")
    aspects = {
        "config": [_training(record) for record in finished],
        "code": [[record["code"][key] for key in ("commit", "dirty")] for record in finished],
        "machines": [machine_of(record) for record in finished],
    }
    for aspect, values in aspects.items():
        if any(value != values[0] for value in values):
            raise ValueError(f"{folder}: records of different {aspect}")
    if len({record["seed"] for record in finished}) < len(finished):
        raise ValueError(f"{folder}: two records of one seed")
    return finished


def _row(name: str, records: list[dict]) -> tuple[str, ...]:
    def values(part: str, key: str, scale: float = 1.0) -> list[float]:
        return [scale * record[part][key] for record in records]

    def accuracy(key: str) -> str:
        percents = values("metrics", key, scale=100)
        std = f" ± {statistics.stdev(percents):.2f}" if len(percents) > 1 else ""
        return f"{statistics.mean(percents):.2f}{std} %"

    cost = records[0]["cost"]
    steps = sorted(values("plan", "steps"))
    return (
        f"[{name}](recipes/{name}.yaml)",
        accuracy("test/acc"),
        accuracy("test/acc_tta") if "test/acc_tta" in records[0]["metrics"] else "",
        str(len(records)),
        f"{steps[0]:,.0f}" if steps[0] == steps[-1] else f"{steps[0]:,.0f} to {steps[-1]:,.0f}",
        f"{statistics.mean(values('plan', 'epochs')):.1f}",
        _strength([record["plan"]["strength"] for record in records]),
        f"{statistics.mean(values('seconds', 'train')):.1f} s",
        f"{statistics.mean(values('cost', 'images_per_second')):,.0f}",
        f"{cost['params']:,}",
        f"{cost['macs'] / 1e6:.1f}M",
        machine_words(machine_of(records[0])),
        f"{max(record['date'] for record in records)[:10]}, {records[0]['code']['commit'][:7]}",
        f"`python train.py -cn {name} seed=0`",
    )


def _strength(strengths: list[dict[str, float]]) -> str:
    """Return what is off in every run, and the range over runs of what is scaled, which depends on their epochs."""
    if len({strength_words({"strength": strength}) for strength in strengths}) == 1:
        return strength_words({"strength": strengths[0]})
    scaled = {name: sorted(strength[name] for strength in strengths) for name in strengths[0]}
    off = [name for name, factors in scaled.items() if factors[-1] == 0]
    part = [
        f"{name} at {100 * low:.0f} to {high:.0%}" for name, (low, *_, high) in scaled.items() if high > 0 and low < 1
    ]
    return "; ".join([f"off: {', '.join(off)}"] * bool(off) + part)


def _training(record: dict) -> dict:
    """Return the training part of a config: no seed, logger, name or folders, nothing that the run's rate decided."""
    not_training = ("seed", "logger", "name", "resume", "rerun", "test")
    config = {key: value for key, value in record["config"].items() if key not in not_training}
    config["data"] = {key: value for key, value in config.get("data", {}).items() if key != "root"}
    asked = record.get("asked", {})
    recipe = {key: value for key, value in config.get("recipe", {}).items() if f"recipe.{key}" not in asked}
    return config | {"recipe": recipe}
