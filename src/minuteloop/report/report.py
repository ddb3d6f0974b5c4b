"""A report: the arms of finished runs, and the views that answer questions about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minuteloop.records.machine import machine_words
from minuteloop.report.arms import Arm, Group, accuracy_metric, groups_of, shared_overrides
from minuteloop.report.compare import compare
from minuteloop.report.curves import curves
from minuteloop.report.ladder import ladder
from minuteloop.report.runs import load_runs, studies_of, where
from minuteloop.report.section import Section
from minuteloop.report.table import table
from minuteloop.report.transfer import transfer


@dataclass(frozen=True)
class Report:
    """What views read: arms in groups of one machine and one budget, the baseline's label, notes on what is left out.

    `study` is the study that the runs belong to, {} without one. `sort` is a column of the table; `resolve` the
    difference that matters, in points; with `pairs` all pairs of arms are compared, not each with the baseline.
    """

    groups: list[Group]
    metric: str
    notes: list[str]
    study: dict = field(default_factory=dict)
    baseline: str | None = None
    sort: str | None = None
    resolve: float = 0.2
    pairs: bool = False

    @property
    def arms(self) -> list[Arm]:
        """All arms of all groups."""
        return [arm for group in self.groups for arm in group.arms]

    def baseline_of(self, group: Group) -> Arm:
        """Return the arm of a group that others are compared with: the one asked for, the study's, or the first."""
        studys = self.study.get("baseline")
        has_studys = any(arm.label == studys for arm in group.arms)
        return group.baseline(self.baseline or (studys if has_studys else None))


def read_report(
    paths: list[Path],
    conditions: list[str] | None = None,
    metric: str | None = None,
    by: list[str] | None = None,
    **options: Any,
) -> Report:
    """Return the report of the runs in `paths` that fulfil the conditions 'KEY=VALUE'; `options` are Report's.

    Raises:
        ConfigError: see load_runs, where, accuracy_metric and groups_of.
    """
    runs, notes = load_runs(paths)
    runs = where(runs, conditions or [])
    metric = accuracy_metric(runs, metric)
    studies = studies_of(paths)
    names = {name: overrides for study in studies for name, overrides in study["arms"].items()}
    study = studies[0] if len(studies) == 1 and not by else {}
    return Report(groups_of(runs, metric, names, by), metric, notes, study, **options)


# view -> (what it answers, the function that does). A function returns None where the runs cannot answer
VIEWS: dict[str, tuple[str, Callable[[Report], Section | None]]] = {
    "table": ("accuracy, steps, seconds, images/s, size of each arm", table),
    "compare": ("effect of each arm against the baseline, with interval and verdict", compare),
    "ladder": ("what each step or ingredient of a ladder gives, beside the ConvNeXt paper's differences", ladder),
    "transfer": ("whether the ranks and effects of a short budget hold for a longer one", transfer),
    "curves": ("accuracy and loss against training seconds and steps, mean and range over seeds", curves),
}


def sections_of(report: Report, view: str | None = None) -> list[Section]:
    """Return the sections of one view, or of all that the runs can answer. Raises ConfigError."""
    chosen = VIEWS if view is None else {view: VIEWS[view]}
    return [section for _, function in chosen.values() if (section := function(report)) is not None]


def facts(report: Report) -> list[str]:
    """Return what was run: runs and budgets, what all were typed with, hardware, dates, commits."""
    runs = [run for arm in report.arms for run in arm.runs]
    dates = sorted({run.record["date"][:10] for run in runs if run.record.get("date")})
    commits = sorted({run.record["code"]["commit"][:7] for run in runs if run.record["code"].get("commit")})
    budgets = list(dict.fromkeys(group.budget for group in report.groups))
    shared = shared_overrides(runs)
    return [
        f"{len(runs)} run{'s' * (len(runs) > 1)} of {', '.join(budgets)}",
        *([f"all with {' '.join(shared)}"] if shared else []),
        *dict.fromkeys(machine_words(group.machine) for group in report.groups),
        *([" to ".join(dict.fromkeys((dates[0], dates[-1])))] if dates else []),
        *([f"commit {', '.join(commits[:3])}{', ...' if len(commits) > 3 else ''}"] if commits else []),
    ]
