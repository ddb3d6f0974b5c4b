"""The arms of a sweep: cells that differ in nothing but their seed, on machines that are alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minuteloop.records.machine import differing, machine_of, machine_words
from minuteloop.study.cell import Cell, is_seed

FAR = 1.25  # a rate this much higher or lower than the one that its plan was made with is reported


@dataclass(frozen=True)
class Arm:
    """The runs of cells that differ in their seed only; `label` is what they have in common and others do not."""

    label: str
    machine: dict[str, Any]
    records: list[dict]

    @property
    def finished(self) -> list[dict]:
        """The records of runs that have finished: no overrun, whose schedule was cut."""
        return [record for record in self.records if record["status"] == "finished"]

    @property
    def accuracies(self) -> list[float]:
        """val/acc of the finished runs, in [0, 1]; empty without a validation split."""
        found = [record["metrics"].get("val/acc") for record in self.finished]
        return [] if None in found else found

    def remarks(self) -> list[str]:
        """Return what makes the arm's figures doubtful: a rate measured on a busy machine, or far from the real one."""
        busy = {record["rate"]["busy"] for record in self.records if record.get("rate", {}).get("busy")}
        lines = [f"its rate was measured on a busy machine ({words})" for words in sorted(busy)]
        for record in self.finished:
            asked, seconds = record["plan"].get("seconds_asked"), record["seconds"]["train"]
            if asked and not asked / FAR <= seconds <= asked * FAR:
                lines.append(f"seed={record['seed']} trained {asked / seconds:.1f} times as fast as the rate measured")
        return [f"{line}; rerun=true measures it again" for line in lines]


def shared_overrides(cells: list[Cell]) -> set[str]:
    """Return the overrides that all cells have, of at least two."""
    return set.intersection(*(set(cell.overrides) for cell in cells)) if len(cells) > 1 else set()


def arms(cells: list[Cell], records: list[dict | None]) -> list[Arm]:
    """Return the arms of cells in the order of their first cells; a run that two cells share counts once.

    Where the cells' records are of different machines, an arm has those of one machine.
    """
    shared = shared_overrides(cells)
    groups: dict[tuple[str, str], dict[Path, dict]] = {}
    for cell, record in zip(cells, records, strict=True):
        if record is not None:
            label = cell.label([*shared, *filter(is_seed, cell.overrides)]) or "all"
            groups.setdefault((label, machine_words(machine_of(record))), {})[cell.folder] = record
    return [
        Arm(label, machine_of(next(iter(group.values()))), list(group.values())) for (label, _), group in groups.items()
    ]


def differing_machines(records: list[dict | None]) -> list[str]:
    """Return the words of records.machine in which records differ; those that failed too early to name one are out."""
    machines = [machine_of(record) for record in records if record and record.get("host")]
    return differing(machines) if machines else []
