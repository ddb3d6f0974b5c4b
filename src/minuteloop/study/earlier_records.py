"""Find an earlier run that a cell of a sweep reuses: finished, of the same config and code, on the same machine."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

from minuteloop.records import environment
from minuteloop.records.machine import differing, machine_of, machine_words
from minuteloop.records.record import config_hash, find_records, read_records
from minuteloop.schema import Config, parse_budget, reads_test_set
from minuteloop.study.cell import NOTES
from minuteloop.study.cell_process import machines_in_process
from minuteloop.training.arm_rate import ArmRate, ArmRates

EARLIER = f"{NOTES}/earlier.jsonl"  # in the sweep's folder
RUNS = "runs"  # the folder of all runs and sweeps, unless hydra.sweep.dir names another


def record_parents(sweep: Path) -> list[Path]:
    """Return the folders whose children are searched for records.

    They are the sweep's and those of sweeps beside it; in RUNS also those of single runs. Nothing else: beside a
    sweep's folder that the user has chosen may lie all that the user has.
    """
    beside = sweep.parent
    pattern = "*" if beside.resolve().name == RUNS else f"*/{NOTES}"
    found = [path if pattern == "*" else path.parent for path in beside.glob(pattern) if path.is_dir()]
    return found if sweep in found else [sweep, *found]


def note_earlier(sweep: Path, configs: list[Config]) -> None:
    """Write which earlier records have the config of a cell, since reading all of them for each cell takes too long."""
    paths = (path for parent in record_parents(sweep) for path in parent.glob("*/result.json"))
    lines = [
        json.dumps({"config_hash": record["config_hash"], "folder": os.path.relpath(folder, sweep)})
        for folder, record in read_records(paths, set(map(config_hash, configs)))
    ]
    (sweep / EARLIER).write_text("".join(f"{line}\n" for line in lines))


def earlier_records(sweep: Path, config: Config) -> list[tuple[Path, dict]]:
    """Return (folder, record) of the runs of a cell's config before this sweep began, the newest first.

    Without note_earlier, where the cells are not known in advance, all records are searched now.
    """
    if not (sweep / EARLIER).exists():
        return find_records(record_parents(sweep), config_hash(config))
    wanted = config_hash(config)
    paths = [Path(os.path.normpath(sweep / folder / "result.json")) for folder in _noted(sweep).get(wanted, [])]
    return read_records(paths, {wanted})


def _noted(sweep: Path) -> dict[str, list[str]]:
    """Return the folders that note_earlier wrote, relative to the sweep's, by config_hash."""
    folders = defaultdict(list)
    for line in map(json.loads, (sweep / EARLIER).read_text().splitlines()):
        folders[line["config_hash"]].append(line["folder"])
    return folders


def unfinished(sweep: Path, configs: list[Config]) -> list[Config]:
    """Return the configs without a finished record of the same code, of whatever machine; all those with rerun=true."""
    hashes = set()
    noted = _noted(sweep)
    paths = (sweep / folder / "result.json" for folders in noted.values() for folder in folders)
    for _, record in read_records(paths, noted):
        if record["status"] == "finished":
            hashes.add((record["config_hash"], record["code"].get("hash")))

    def has_finished(config: Config) -> bool:
        return (config_hash(config), environment.describe_code(config.recipe)["hash"]) in hashes

    return [config for config in configs if config.rerun or not has_finished(config)]


def finished_before(sweep: Path, config: Config, earlier: list[tuple[Path, dict]]) -> tuple[Path | None, str | None]:
    """Return the folder of the run that a cell reuses, or None and the reason why a finished one is not reused."""
    finished = [(folder, record) for folder, record in earlier if record["status"] == "finished"]
    if config.rerun or not finished:
        return None, "rerun=true" if finished else None
    code, again = environment.describe_code(config.recipe)["hash"], "the code has changed since"
    same_code = [(folder, record) for folder, record in finished if record["code"].get("hash") == code]
    machines = machines_in_process(config) if same_code else []
    reasons = []
    for folder, record in same_code:
        reasons.append(_why_again(sweep, config, record, machines, code))
        if reasons[-1] is None:
            return folder, None
    return None, reasons[0] if reasons else again


def _why_again(sweep: Path, config: Config, record: dict, machines: list[dict], code: str) -> str | None:
    """Return why a cell cannot reuse a finished record, or None where it can."""
    if not machines:
        return "the device that it asks for is missing here"
    machine = machine_of(record)
    if reads_test_set(config, is_cell=True) and "test/acc" not in record["metrics"]:
        return "the earlier run has not read the test set"
    amount, unit = parse_budget(config.budget)
    if unit != "s":
        return None if machine in machines else _of_another(machine, machines)
    rates = ArmRates(sweep, config, machines[0], code)
    with rates.locked() as rate:
        expected = [machines[0] | {"threads": rate.threads}] if rate and config.threads == "auto" else machines
        if machine not in expected:
            return _of_another(machine, expected)
        if rate is None:
            rate = rates.save(ArmRate(record["plan"]["steps"], amount, machine["threads"], busy=None))
    if record["plan"]["steps"] != rate.steps:
        return f"the earlier run trained {record['plan']['steps']:,} steps, its arm {rate.steps:,}"
    return None


def _of_another(machine: dict, expected: list[dict]) -> str:
    here = next((here for here in expected if here["threads"] == machine["threads"]), expected[0])
    return f"the earlier record is of {machine_words(machine, differing([machine, here]))}"
