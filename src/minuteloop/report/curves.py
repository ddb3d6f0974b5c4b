"""Curves of arms: accuracy and loss against training seconds and steps, the mean and the range over seeds."""

from __future__ import annotations

import csv
import dataclasses
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minuteloop.report.arms import Arm, Group
from minuteloop.report.runs import Run
from minuteloop.report.section import Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minuteloop.report.report import Report

FILE = "metrics.csv"
COLUMNS = {"val/acc": "validation accuracy, %", "train/loss": "training loss"}
QUARTERS = (0.25, 0.5, 0.75, 1.0)  # of a run, at which the table shows the accuracy
NEAR = 0.02  # of a run, that the first evaluation may come after a quarter: it comes a step later


@dataclass(frozen=True)
class Curve:
    """A column of metrics.csv over the seeds of an arm that have it: float [points] each.

    Seeds are averaged at equal fractions of their steps; `steps` and `seconds` are the means over seeds there.
    """

    arm: Arm
    column: str
    steps: np.ndarray
    seconds: np.ndarray
    mean: np.ndarray
    low: np.ndarray  # the smallest of the seeds
    high: np.ndarray  # the largest

    @property
    def n(self) -> int:
        """How many seeds have the column."""
        return len(self.arm.runs)


@dataclass(frozen=True)
class Points:
    """A column of one run: fractions of the run's steps, training seconds and values, float [points] each."""

    fractions: np.ndarray
    seconds: np.ndarray
    values: np.ndarray


def curves(report: Report) -> Section | None:
    """Return the curves of the arms whose runs have metrics.csv; None where no run has one with two points."""
    found = [(group, _curves_of(group)) for group in report.groups]
    found = [(group, own) for group, own in found if own]
    if not found:
        return None
    sentences = [
        "Curves are means over seeds at equal fractions of their runs; ranges go from the smallest to the largest seed."
    ]

    have = [(run.folder / FILE).exists() for arm in report.arms for run in arm.runs]
    if not all(have):
        sentences.append(f"{have.count(False)} of {len(have)} runs have no {FILE}: left out.")
    data = {"curves": [_data(curve) for _, own in found for curve in own]}
    return Section("curves", "Curves", sentences, data, _table(found), lambda: _draw(report, found))


def read_points(run: Run, column: str) -> Points | None:
    """Return a column of a run's metrics.csv; None without two points of it.

    A file of an earlier version has no training seconds: they are steps at the run's mean rate then.
    """
    path = run.folder / FILE
    if not path.exists():
        return None
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(column)]
    if len(rows) < 2:
        return None
    steps = np.array([float(row["step"]) for row in rows])
    if all(row.get("seconds") for row in rows):
        seconds = np.array([float(row["seconds"]) for row in rows])
    else:
        seconds = steps / run.record["pace"]["steps_per_second"]
    values = np.array([float(row[column]) for row in rows])
    return Points(steps / run.record["steps"], seconds, 100 * values if column.endswith("acc") else values)


def average(arm: Arm, column: str) -> Curve | None:
    """Return the curve of an arm; None where no run has one.

    Each run is interpolated at the fractions of the run with the fewest points, as far as all runs reach.
    """
    found = [(run, points) for run in arm.runs if (points := read_points(run, column)) is not None]
    if not found:
        return None
    first = max(points.fractions[0] for _, points in found)
    last = min(points.fractions[-1] for _, points in found)
    grid = min((points.fractions for _, points in found), key=len)
    grid = np.unique(np.clip(grid, first, last))
    values = np.array([np.interp(grid, points.fractions, points.values) for _, points in found])
    seconds = np.array([np.interp(grid, points.fractions, points.seconds) for _, points in found])
    steps = grid * statistics.mean(run.record["steps"] for run, _ in found)
    arm = dataclasses.replace(arm, runs=[run for run, _ in found])
    return Curve(arm, column, steps, seconds.mean(0), values.mean(0), values.min(0), values.max(0))


def _curves_of(group: Group) -> list[Curve]:
    return [curve for column in COLUMNS for arm in group.arms if (curve := average(arm, column)) is not None]


def _table(found: list[tuple[Group, list[Curve]]]) -> Table | None:
    """Return each arm's validation accuracy at quarters of its run; None without one."""
    with_words = any(group.words for group, _ in found)
    columns = ["arm", *(["of"] if with_words else [])]
    columns += [f"val at {quarter:.0%}" if quarter < 1 else "val at the end" for quarter in QUARTERS]
    rows, values = [], []
    for group, own in found:
        for curve in own:
            if curve.column != "val/acc":
                continue
            fractions = curve.steps / curve.steps[-1]
            at = [
                np.interp(each, fractions, curve.mean) if fractions[0] <= each + NEAR else np.nan for each in QUARTERS
            ]
            words = [group.words] if with_words else []
            rows.append([curve.arm.label, *words, *("-" if np.isnan(value) else f"{value:.2f} %" for value in at)])
            numbers = [None if np.isnan(value) else float(value) for value in at]
            values.append([None, *(None for _ in words), *numbers])
    return Table(columns, rows, values) if rows else None


def _data(curve: Curve) -> dict[str, Any]:
    arrays = {name: getattr(curve, name).tolist() for name in ("steps", "seconds", "mean", "low", "high")}
    machine, budget = curve.arm.machine, curve.arm.budget
    return {
        "arm": curve.arm.label,
        "budget": budget,
        "machine": machine,
        "column": curve.column,
        "n": curve.n,
        **arrays,
    }


def _draw(report: Report, found: list[tuple[Group, list[Curve]]]) -> Figure:
    from minuteloop.report.plots.curves import plot_curves

    title = report.study.get("question") or "Curves"
    return plot_curves([(group.words, own) for group, own in found], title)
