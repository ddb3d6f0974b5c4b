"""Find finished runs: in run folders, in sweeps, in folders of either, in files of records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minuteloop.records.record import KILLED, NOT_HASHED, SCHEMA
from minuteloop.study.cell import NOTES, Cell, read_cells
from minuteloop.study.design import FILE as STUDY
from minuteloop.study.design import key_of, read_study
from minuteloop.validation import ConfigError, flat

NOT_AN_ARMS = {"seed", "budget"}  # what runs of one arm may differ in; the budget is held apart beside it
MOST_NAMED = 3  # runs in a note


@dataclass(frozen=True)
class Run:
    """A finished run: its record, the overrides that it was made with, and its folder.

    `family` is what runs without overrides share: the name of the folder that holds them.
    """

    record: dict
    overrides: list[str]
    folder: Path
    family: str = ""

    @property
    def budget(self) -> str:
        """The budget as asked, such as '60s'."""
        return self.asked["budget"]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.record["seed"]

    @property
    def asked(self) -> dict[str, Any]:
        """The config as asked, flat: {'recipe.lr': 'auto', ...}."""
        asked = self.record["asked"]
        became = tuple(f"{key}." for key in asked)  # recipe.strength=auto became a factor for each ingredient
        resolved = flat(self.record["config"])
        return {key: value for key, value in resolved.items() if not key.startswith(became)} | asked

    @property
    def arm_config(self) -> dict[str, Any]:
        """The config as asked without what runs of one arm may differ in, and what has no effect on a result."""
        return {key: value for key, value in self.asked.items() if is_of_an_arm(key)}


def is_of_an_arm(key: str) -> bool:
    """Return whether runs that differ in a key are of different arms."""
    return key not in NOT_AN_ARMS and not _has_no_effect(key)


def _has_no_effect(key: str) -> bool:
    return key.partition(".")[0] in NOT_HASHED or key in NOT_HASHED


def load_runs(paths: list[Path]) -> tuple[list[Run], list[str]]:
    """Return the finished runs in `paths`, each once, and notes on what is left out and what was run again.

    A path is a run's folder, a sweep's folder, a folder of either, a record (.json) or a file of records (.jsonl).

    Raises:
        ConfigError: a path that does not exist or holds no record; no run has finished.
    """
    found: dict[Path | tuple[Path, int], Run] = {}
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
        here = dict(_records_in(path))
        if not here and not _cells_in([path]):
            raise ConfigError(f"{path}: holds no record of a run (a run's folder, a sweep's, one of these, *.jsonl)")
        found |= {key: run for key, run in here.items() if key not in found}
    finished = [run for run in found.values() if run.record["status"] == "finished"]
    notes = _notes([run for run in found.values() if run.record["status"] != "finished"], _cells_in(paths))
    if not finished:
        raise ConfigError("; ".join([f"{' '.join(map(str, paths))}: no run has finished", *notes]))
    return finished, notes


def _notes(unfinished: list[Run], cells: list[Cell]) -> list[str]:
    """Return why runs and cells are left out, and why cells were trained again; those of one reason in one line."""
    left_out: dict[str, list[str]] = {}
    again: dict[str, list[str]] = {}
    names = {cell.folder: cell.label() for cell in cells}
    for run in unfinished:
        status, error = run.record["status"], run.record.get("error")
        error = "killed, or still running" if error == KILLED else error
        name = names.get(run.folder) or " ".join(run.overrides) or run.folder.name
        left_out.setdefault(f"{status}: {error}" if error else status, []).append(name)
    for cell in cells:
        if cell.record() is None:
            left_out.setdefault(cell.failure(), []).append(cell.label())
        if cell.again:
            again.setdefault(cell.again, []).append(cell.label())
    return [
        f"{what}, {reason}: {', '.join(names[:MOST_NAMED])}"
        + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
        for what, reasons in (("Left out", left_out), ("Run again", again))
        for reason, names in reasons.items()
    ]


def _cells_in(paths: list[Path]) -> list[Cell]:
    """Return the cells of sweeps at or directly below paths.

    Their overrides are those that change a result, with the name of a study's arm in place of the arm's own.
    """
    cells = []
    for folder in dict.fromkeys(folder for path in paths for folder in (path, *_folders_in(path))):
        study = read_study(folder)
        for cell in read_cells(folder):
            words = study.named(cell.overrides) if study else cell.overrides
            cells.append(replace(cell, overrides=[word for word in words if not _has_no_effect(key_of(word))]))
    return cells


def studies_of(paths: list[Path]) -> list[dict]:
    """Return the studies that `paths` belong to: what study.json of a sweep, or beside a file of records, holds."""
    folders = [folder for path in paths for folder in (path if path.is_dir() else path.parent, *_folders_in(path))]
    files = dict.fromkeys(folder / STUDY for folder in folders)
    return [json.loads(file.read_text()) for file in files if file.exists()]


def _folders_in(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []


def _records_in(path: Path) -> Iterator[tuple[Path | tuple[Path, int], Run]]:
    """Yield (what identifies it, run) for every record at or directly below a path."""
    if path.suffix == ".jsonl" and path.is_file():
        for number, line in enumerate(path.read_text().splitlines()):
            yield (path.resolve(), number), _run(_parse(line, f"{path}:{number + 1}"), path.parent, path.stem)
    elif path.is_file():
        yield path.resolve(), _run(_parse(path.read_text(), str(path)), path.parent, path.parent.name)
    elif (path / "result.json").exists():
        file = path / "result.json"
        yield path.resolve(), _run(_parse(file.read_text(), str(file)), path, path.parent.name)
    elif (path / NOTES).is_dir():
        for cell in read_cells(path):
            record = cell.record()
            if record is not None:
                yield cell.folder.resolve(), Run(record, cell.overrides, cell.folder, path.name)
    else:
        for child in sorted(path.iterdir()):
            is_records = child.suffix == ".jsonl" or (child.suffix == ".json" and _is_record(child))
            if is_records or (child.is_dir() and ((child / "result.json").exists() or (child / NOTES).is_dir())):
                yield from _records_in(child)


def _run(record: dict, folder: Path, family: str) -> Run:
    return Run(record, record.get("overrides") or [], folder, family)


def _parse(text: str, where: str) -> dict:
    """Return the record that `text` holds. Raises ConfigError, which starts with `where`."""
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where}: is not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise ConfigError(f"{where}: is no record of schema {SCHEMA}")
    return record


def _is_record(path: Path) -> bool:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("schema") == SCHEMA


def where(runs: list[Run], conditions: list[str]) -> list[Run]:
    """Return the runs whose config, as asked, has every 'KEY=VALUE' of `conditions`.

    Raises:
        ConfigError: a condition without '=', an unknown key, or no run that fulfils them.
    """
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not equals:
            raise ConfigError(f"--where {condition}: must be KEY=VALUE, such as budget=60s")
        known = [run for run in runs if key in run.asked]
        if not known:
            raise ConfigError(f"--where {condition}: no run has a key {key}")
        runs = [run for run in known if str(run.asked[key]) == value]
        if not runs:
            values = sorted({str(run.asked[key]) for run in known})
            raise ConfigError(f"--where {condition}: no run has it ({key} is {', '.join(values[:8])})")
    return runs


def copy_without_folder(run: Run) -> dict:
    """Return the run's record with its overrides, so that a file of records needs nothing beside it."""
    record = dict(run.record)
    config = dict(record["config"])
    config["data"] = config["data"] | {"root": "auto"}
    return record | {"config": config, "overrides": run.overrides}


def differing_keys(configs: list[dict[str, Any]]) -> list[str]:
    """Return the keys of flat configs whose values differ, in the order of the first."""
    keys = list(dict.fromkeys(key for config in configs for key in config))
    return [key for key in keys if len({json.dumps(config.get(key), default=str) for config in configs}) > 1]
