"""The table that a multirun ends with."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

from tabulate import tabulate

from minuteloop.study.cell import Cell

NO_RECORD = {"status": "", "steps": 0, "metrics": {}, "seconds": {"train": 0.0}, "cost": {}}


def sweep_table(cells: list[Cell], sweep: Path) -> str:
    """Return Markdown: a row for each cell, then mean ± std over the seeds of cells that differ in nothing else.

    Accuracy is that of the validation split; the test set never chooses.
    """
    shared = set.intersection(*(set(cell.overrides) for cell in cells)) if len(cells) > 1 else set()
    records = [cell.record() or NO_RECORD for cell in cells]
    lines = [f"## {sweep.name}", ""]
    if shared:
        different = [override for override in cells[0].overrides if override not in shared]
        lines += [f"All with `{cells[0].label(different)}`.", ""]
    rows = [_cell_row(cell, record, shared, sweep) for cell, record in zip(cells, records, strict=True)]
    lines += [_markdown(("cell", "val/acc", "steps", "images/s", "training", "status", "folder"), rows)]
    groups: dict[str, dict[Path, dict]] = {}
    for cell, record in zip(cells, records, strict=True):
        seeds = [override for override in cell.overrides if override.startswith("seed=")]
        # by folder: a run that two cells share counts once
        groups.setdefault(cell.label([*shared, *seeds]) or "all", {})[cell.folder] = record
    if any(len(group) > 1 for group in groups.values()):
        rows = [_group_row(label, list(group.values())) for label, group in groups.items()]
        lines += ["", _markdown(("over seeds", "val/acc", "n", "steps", "images/s", "training"), rows)]
    return "\n".join(lines) + "\n"


def _cell_row(cell: Cell, record: dict, shared: set[str], sweep: Path) -> tuple[str, ...]:
    seconds = record["seconds"]["train"]
    reused = ", reused" if record is not NO_RECORD and cell.folder.parent != sweep else ""
    return (
        cell.label(list(shared)) or "-",
        _percent([record["metrics"].get("val/acc")]),
        f"{record['steps']:,}" if record["steps"] else "-",
        _mean([record["cost"].get("images_per_second")], ",.0f"),
        f"{seconds:.1f} s" if seconds else "-",
        cell.failure() or f"{record['status']}{reused}",
        os.path.relpath(cell.folder, sweep),
    )


def _group_row(label: str, records: list[dict]) -> tuple[str, ...]:
    finished = [record for record in records if record["status"] == "finished"]
    n = f"{len(finished)} of {len(records)}" if len(finished) < len(records) else str(len(finished))
    steps = sorted(record["steps"] for record in finished)
    return (
        label,
        _percent([record["metrics"].get("val/acc") for record in finished]),
        n,
        "-" if not steps else f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}",
        _mean([record["cost"].get("images_per_second") for record in finished], ",.0f"),
        _mean([record["seconds"]["train"] for record in finished], ".1f", " s"),
    )


def _percent(fractions: list[float | None]) -> str:
    """Return the mean and, of two or more, the sample std of fractions, in percent; '-' where one is missing."""
    if not fractions or None in fractions:
        return "-"
    std = f" ± {100 * statistics.stdev(fractions):.2f}" if len(fractions) > 1 else ""
    return f"{100 * statistics.mean(fractions):.2f}{std} %"


def _mean(values: list[float | None], format_: str, unit: str = "") -> str:
    return "-" if not values or None in values else f"{statistics.mean(values):{format_}}{unit}"


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    escaped = [[text.replace("|", "\\|") for text in row] for row in rows]
    return tabulate(escaped, header, tablefmt="github", disable_numparse=True)
