"""A cell of a multirun: its note in the sweep's folder, and the record that it points to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NOTES = "cells"  # a folder in the sweep's, with a file for each cell
NOT_RUN = "not run"  # the error of a cell that a stopped sweep never started


@dataclass(frozen=True)
class Cell:
    """One cell of a sweep: its number, its overrides and the folder of its record.

    `error` is the reason where there is no record; `again` is why a cell that had finished before was trained again. A
    cell that had finished in an earlier sweep has its folder there.
    """

    number: int
    overrides: list[str]
    folder: Path
    error: str | None = None
    again: str | None = None

    def save(self, sweep: Path) -> None:
        """Write the cell's note into the sweep's folder, atomically."""
        note = sweep / NOTES / f"{self.number}.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "overrides": self.overrides,
            "folder": os.path.relpath(self.folder, sweep),
            "error": self.error,
            "again": self.again,
        }
        temporary = note.with_suffix(".tmp")
        temporary.write_text(json.dumps(content) + "\n")
        temporary.replace(note)

    def record(self) -> dict | None:
        """Return what result.json holds, or None without one."""
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    def label(self, without: Sequence[str] = ()) -> str:
        """Return the overrides in one line, the seed last, except those in `without`."""
        overrides = sorted(self.overrides, key=is_seed)
        return " ".join(override for override in overrides if override not in without)

    def failure(self) -> str | None:
        """Return in one line why the cell has no result, or None where it ran to its end."""
        record = self.record()
        if record is None:
            return NOT_RUN if self.error == NOT_RUN else f"failed: {self.error or 'its record is gone'}"
        if record["status"] in ("finished", "overrun"):
            return None
        return f"{record['status']}: {record['error']}" if record["error"] else record["status"]


def is_seed(override: str) -> bool:
    """Whether an override sets the seed."""
    return override.lstrip("+").startswith("seed=")


def read_cells(sweep: Path) -> list[Cell]:
    """Return the cells of a sweep's folder, in order."""
    numbers = sorted(int(path.stem) for path in (sweep / NOTES).glob("*.json"))
    return [read_cell(sweep, number) for number in numbers]


def read_cell(sweep: Path, number: int) -> Cell | None:
    """Return a cell of a sweep's folder, or None where it has not started yet."""
    path = sweep / NOTES / f"{number}.json"
    if not path.exists():
        return None
    note = json.loads(path.read_text())
    folder = Path(os.path.normpath(sweep / note["folder"]))
    return Cell(number, note["overrides"], folder, note["error"], note["again"])
