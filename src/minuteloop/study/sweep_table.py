"""The table that a multirun ends with."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

from tabulate import tabulate

from minuteloop.records.machine import machine_of, machine_words
from minuteloop.records.summary import strength_words
from minuteloop.study.arms import Arm, arms, differing_machines, shared_overrides
from minuteloop.study.cell import Cell

COLLAPSED = ("epochs", "strength", "lr", "params", "MACs")  # columns that move to a line where all rows are equal
Row = dict[str, str]


def sweep_table(cells: list[Cell], sweep: Path) -> str:
    """Return Markdown: a row for each cell, then mean ± std over the seeds of cells that differ in nothing else.

    Accuracy is that of the validation split; the test set never chooses. Runs of different machines are never averaged.
    """
    records = [cell.record() for cell in cells]
    shared, machine_keys = shared_overrides(cells), differing_machines(records)
    lines = [f"## {sweep.name}", ""]
    if shared:
        different = [override for override in cells[0].overrides if override not in shared]
        lines += [f"All with `{cells[0].label(different)}`.", ""]
    rows = [_cell_row(cell, record, sweep, shared, machine_keys) for cell, record in zip(cells, records, strict=True)]
    groups = arms(cells, records)
    equal = _collapse(rows)
    known = [machine_of(record) for record in records if record and record.get("host")]
    if known and not machine_keys:
        equal.append(f"on {machine_words(known[0])}")
    if equal:
        lines += [f"In all rows: {'; '.join(equal)}.", ""]
    lines.append(_markdown(rows))
    if any(len(arm.records) > 1 for arm in groups) or len({arm.label for arm in groups}) < len(groups):
        arm_rows = [_arm_row(arm, machine_keys) for arm in groups]
        for row in arm_rows:
            for column in COLLAPSED:
                if column not in rows[0]:
                    del row[column]
        lines += ["", _markdown(arm_rows)]
    remarks = [*_cell_remarks(cells, sweep), *(f"{arm.label}: {remark}" for arm in groups for remark in arm.remarks())]
    if remarks:
        lines += ["", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines) + "\n"


def _cell_row(cell: Cell, record: dict | None, sweep: Path, shared: set[str], machine_keys: list[str]) -> Row:
    row = {"#": str(cell.number), "cell": cell.label(list(shared)) or "-"}
    if machine_keys:
        row["machine"] = machine_words(machine_of(record), machine_keys) if record and record.get("host") else "-"
    reused = ", reused" if record and cell.folder.parent != sweep else ""
    return row | _figures([record] if record else []) | {"status": cell.failure() or f"{record['status']}{reused}"}


def _arm_row(arm: Arm, machine_keys: list[str]) -> Row:
    row = {"over seeds": arm.label}
    if machine_keys:
        row["machine"] = machine_words(arm.machine, machine_keys)
    finished, total = len(arm.finished), len(arm.records)
    figures = _figures(arm.finished)
    n = str(total) if finished == total else f"{finished} of {total}"
    return row | {"val/acc": figures.pop("val/acc"), "n": n} | figures


def _figures(records: list[dict]) -> Row:
    """Return the texts of records: means, or the range of what is not measured."""
    done = [record for record in records if record["steps"]]
    plans, costs = [record["plan"] for record in records if record["plan"]], [record["cost"] for record in records]
    epochs = [record["plan"]["epochs"] * record["steps"] / record["plan"]["steps"] for record in done]
    return {
        "val/acc": _percent([record["metrics"].get("val/acc") for record in records]),
        "steps": _range([record["steps"] for record in done], ",d"),
        "epochs": _range(epochs, ".2f"),
        "training": _mean([record["seconds"]["train"] for record in done], ".1f", " s"),
        "images/s": _mean([cost.get("images_per_second") for cost in costs], ",.0f"),
        "lr": _range([plan["lr"] for plan in plans], ".3g"),
        "params": _range([cost["params"] / 1e6 for cost in costs if "params" in cost], ".2f", " M"),
        "MACs": _range([cost["macs"] / 1e6 for cost in costs if "macs" in cost], ",.1f", " M"),
        "strength": strength_words(*plans) if plans else "-",
    }


def _collapse(rows: list[Row]) -> list[str]:
    """Remove from rows the columns of COLLAPSED whose texts are equal, and return these as 'column text'."""
    equal = []
    for column in COLLAPSED:
        texts = {row[column] for row in rows} - {"-"}
        if len(texts) == 1:
            equal.append(f"{column} {texts.pop()}")
        if len(texts) <= 1:
            for row in rows:
                del row[column]
    return equal


def _cell_remarks(cells: list[Cell], sweep: Path) -> list[str]:
    """Return why cells were trained again, and where records are that are not in the cell's own folder."""
    remarks = [f"cell {cell.number} was run again: {cell.again}" for cell in cells if cell.again]
    elsewhere: dict[Path, list[str]] = {}
    for cell in cells:
        if cell.folder.parent != sweep or not cell.folder.name.endswith(f"-{cell.number}"):
            elsewhere.setdefault(cell.folder.parent, []).append(f"cell {cell.number} is {cell.folder.name}")
    return remarks + [f"in {os.path.relpath(folder, sweep)}: {', '.join(found)}" for folder, found in elsewhere.items()]


def _percent(fractions: list[float | None]) -> str:
    """Return the mean and, of two or more, the sample std of fractions, in percent; '-' where one is missing."""
    if not fractions or None in fractions:
        return "-"
    std = f" ± {100 * statistics.stdev(fractions):.2f}" if len(fractions) > 1 else ""
    return f"{100 * statistics.mean(fractions):.2f}{std} %"


def _mean(values: list[float | None], format_: str, unit: str = "") -> str:
    return "-" if not values or None in values else f"{statistics.mean(values):{format_}}{unit}"


def _range(values: list[float], format_: str, unit: str = "") -> str:
    texts = list(dict.fromkeys(f"{value:{format_}}" for value in sorted(values)))
    return f"{texts[0]}{f' to {texts[-1]}' if len(texts) > 1 else ''}{unit}" if texts else "-"


def _markdown(rows: list[Row]) -> str:
    escaped = [[text.replace("|", "\\|") for text in row.values()] for row in rows]
    return tabulate(escaped, list(rows[0]), tablefmt="github", disable_numparse=True)
