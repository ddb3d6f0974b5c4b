"""The table that a multirun ends with, from the notes of its cells and the records that they point to."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NOTES = "cells"  # a folder in the sweep's, with a file a cell
NOT_RUN = "not run"  # the error of a cell whose turn did not come


@dataclass
class Cell:
    """One cell of a sweep: its number, its command-line words and the folder of its record.

    `error` says why there is none. A cell that had finished in an earlier sweep has its folder there.
    """

    number: int
    overrides: list[str]
    folder: Path
    error: str | None = None

    def save(self, sweep: Path) -> None:
        """Writes the cell's note into the sweep's folder, whole or not at all."""
        note = sweep / NOTES / f"{self.number}.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        content = {"overrides": self.overrides, "folder": os.path.relpath(self.folder, sweep), "error": self.error}
        temporary = note.with_suffix(".tmp")
        temporary.write_text(json.dumps(content) + "\n")
        temporary.replace(note)

    def record(self) -> dict | None:
        """What result.json holds."""
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    def words(self, less: Sequence[str] = ()) -> str:
        """The overrides on one line, without those of `less`."""
        return " ".join(word for word in self.overrides if word not in less)

    def failure(self) -> str | None:
        """Why there is no figure to stand for the cell, in one line; None where it ran to its end."""
        record = self.record()
        if record is None:
            return NOT_RUN if self.error == NOT_RUN else f"failed: {self.error}"
        if record["status"] in ("finished", "overrun"):
            return None
        return f"{record['status']}: {record['error']}" if record["error"] else record["status"]


def cells(sweep: Path) -> list[Cell]:
    """The cells of a sweep's folder, in their order."""
    found = []
    for path in sorted((sweep / NOTES).glob("*.json"), key=lambda path: int(path.stem)):
        note = json.loads(path.read_text())
        folder = Path(os.path.normpath(sweep / note["folder"]))
        found.append(Cell(int(path.stem), note["overrides"], folder, note["error"]))
    return found


def table(cells: list[Cell], sweep: Path) -> str:
    """Markdown: a row a cell, then mean ± standard deviation over the seeds of cells that differ in nothing else.

    Figures are of the validation split; the test set never chooses.
    """
    common = set.intersection(*(set(cell.overrides) for cell in cells)) if len(cells) > 1 else set()
    rows = [("cell", "val/acc", "training", "status", "folder")]
    groups: dict[str, dict[Path, dict]] = {}
    for cell in cells:
        record = cell.record() or {"status": "", "metrics": {}, "seconds": {"train": 0.0}}
        reused = cell.folder.parent != sweep and ", reused"
        rows.append(
            (
                cell.words(common) or "-",
                _percent([record["metrics"].get("val/acc")]),
                f"{record['seconds']['train']:.1f} s" if record["seconds"]["train"] else "-",
                cell.failure() or f"{record['status']}{reused or ''}",
                os.path.relpath(cell.folder, sweep),
            )
        )
        seedless = [word for word in cell.overrides if not word.startswith("seed=")]
        group = " ".join(word for word in seedless if word not in common) or "all"
        groups.setdefault(group, {})[cell.folder] = record  # a run that stands for two cells counts once
    lines = [f"## {sweep.name}", ""]
    if common:
        lines += [f"All with `{cells[0].words([w for w in cells[0].overrides if w not in common])}`.", ""]
    lines += _markdown(rows)
    if any(len(records) > 1 for records in groups.values()):
        rows = [("over seeds", "val/acc", "n", "training")]
        for words, records in groups.items():
            done = [record for record in records.values() if record["status"] == "finished"]
            seconds = f"{statistics.mean(record['seconds']['train'] for record in done):.1f} s" if done else "-"
            of = f" of {len(records)}" if len(done) < len(records) else ""
            rows.append((words, _percent([r["metrics"].get("val/acc") for r in done]), f"{len(done)}{of}", seconds))
        lines += ["", *_markdown(rows)]
    return "\n".join(lines) + "\n"


def _percent(shares: list[float | None]) -> str:
    """Mean and, of two and more, sample standard deviation of shares, in percent; - where one is missing."""
    if not shares or None in shares:
        return "-"
    spread = f" ± {100 * statistics.stdev(shares):.2f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.2f}{spread} %"


def _markdown(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as a Markdown table that reads well as text too; the first holds the titles."""
    rows = [tuple(text.replace("|", "\\|") for text in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    return [f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |" for row in rows]
