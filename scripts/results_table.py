"""The table of published runs in the README, made from their records."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

BEGIN, END = "<!-- results: made by scripts/table.py -->", "<!-- end of results -->"
HEADER = (
    "| run | test accuracy | with views | n | training | images/s | parameters | multiply-adds | hardware |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def rows(recipes: Path) -> list[str]:
    """A Markdown row for each folder of records in `recipes`: mean and deviation over its finished runs.

    Raises ValueError where the records of one folder are of different configs, code or hardware.
    """
    return [_row(folder) for folder in sorted(recipes.iterdir()) if any(folder.glob("*.json"))]


def _row(folder: Path) -> str:
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    finished = [record for record in records if record["status"] == "finished"]
    if not finished:
        raise ValueError(f"{folder}: no finished record")
    aspects = {
        "config": [_training(record) for record in finished],
        "code": [[record["code"][key] for key in ("commit", "dirty")] for record in finished],
        "hardware": [[record["host"].get(key) for key in ("cpu", "gpu", "threads")] for record in finished],
    }
    for aspect, values in aspects.items():
        if any(value != values[0] for value in values):
            raise ValueError(f"{folder}: records of different {aspect}")
    if len({record["seed"] for record in finished}) < len(finished):
        raise ValueError(f"{folder}: two records of one seed")
    host, cost = finished[0]["host"], finished[0]["cost"]

    def over(*keys: str, scale: float = 1.0) -> list[float]:
        return [scale * record[keys[0]][keys[1]] for record in finished]

    def accuracy(key: str) -> str:
        values = over("metrics", key, scale=100)
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.2f}{spread} %"

    views = accuracy("test/acc_tta") if "test/acc_tta" in finished[0]["metrics"] else ""
    hardware = host.get("gpu") or f"{host['cpu']}, {host['threads']} cores"
    return (
        f"| [{folder.name}](recipes/{folder.name}.yaml) | {accuracy('test/acc')} | {views} | {len(finished)} "
        f"| {statistics.mean(over('seconds', 'train')):.1f} s "
        f"| {statistics.mean(over('cost', 'images_per_second')):,.0f} "
        f"| {cost['params']:,} | {cost['macs'] / 1e6:.1f}M | {hardware} |"
    )


def _training(record: dict) -> dict:
    """What was asked of the training: without its seed, what a run's own rate decided, logger, name and folders."""
    config = {key: value for key, value in record["config"].items() if key not in ("seed", "logger", "name", "resume")}
    config["data"] = {key: value for key, value in config.get("data", {}).items() if key != "root"}
    asked = record.get("asked", {})
    recipe = {key: value for key, value in config.get("recipe", {}).items() if f"recipe.{key}" not in asked}
    return config | {"recipe": recipe}


def updated(readme: str, recipes: Path) -> str:
    """The README's text with its table made anew."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, *HEADER, *rows(recipes), END + after])
