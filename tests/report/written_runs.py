"""Records of runs for tests: a published one, with what a test changes in it."""

import copy
import json
from pathlib import Path

PUBLISHED = Path(__file__).parents[2] / "recipes/convnext_deit_cpu/seed0.json"


def a_record(overrides=(), accuracy=0.6, seed=0, budget="60s", **changed):
    """Return a finished record; `changed` sets values by dotted keys with '__' for '.', such as cost__macs=1."""
    record = copy.deepcopy(json.loads(PUBLISHED.read_text()))
    record |= {"seed": seed, "overrides": [*overrides, f"seed={seed}"]}
    record["metrics"] = {"val/acc": accuracy, "val/loss": 1.0}
    record["config"] |= {"seed": seed, "budget": budget}
    for key, value in changed.items():
        *parts, last = key.split("__")
        node = record
        for part in parts:
            node = node[part]
        node[last] = value
    return record


def write_run(folder, overrides=(), accuracy=0.6, seed=0, budget="60s", **changed):
    """Write a run's folder with its record, and return the folder."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(a_record(overrides, accuracy, seed, budget, **changed)))
    return folder


def write_records(path, records):
    """Write a file of records, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
