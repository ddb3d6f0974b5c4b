"""What a study will cost and can resolve, before it is run."""

from __future__ import annotations

import statistics

from minuteloop.report.arms import Group, pooled_std
from minuteloop.report.section import Section, Table
from minuteloop.report.statistics.seeds import resolvable, seeds_needed
from minuteloop.schema import parse_budget
from minuteloop.study.design import Study
from minuteloop.study.grid import compose_study
from minuteloop.validation import ConfigError

STDS = (0.2, 0.5, 1.0)  # points between seeds, where no runs tell: from a long run to a CPU minute
OVERHEAD = 10.0  # seconds of a cell besides its training, where no runs tell


def plan(name: str, config_dir: str, groups: list[Group], resolve: float) -> Section:
    """Return what the study `name` costs and resolves; runs of it or like it, in `groups`, tell the spread of seeds.

    Raises:
        ConfigError: no such study.
    """
    study = _study(name, config_dir)
    stds, source = _stds(groups)
    overhead = _overhead(groups)
    seeds, arms = len(study.seeds), len(study.arms) - 1
    rows = [_row(std, seeds, arms, resolve) for std in stds]
    columns = [
        "std of a run, points",
        f"{seeds} seeds resolve",
        f"seeds an arm for {resolve:g} points",
        "for 0.5",
        "for 1",
    ]
    cost = _cost(study, overhead)
    sentences = [
        *cost,
        f"To resolve is to show a true difference of one given arm from {study.baseline} with a probability of 0.8, by "
        "intervals that hold for all arms together with 95 %.",
        "Seeds of real runs showed it with 0.72 to 0.78 at 3 to 5 seeds (scripts/simulate_verdicts.py).",
        source,
    ]
    data = {
        "study": name,
        "arms": study.arms,
        "baseline": study.baseline,
        "seeds": study.seeds,
        "budgets": study.budgets,
        "cells": len(study.arms) * seeds * len(study.budgets),
        "minutes": _minutes(study, overhead),
        "resolves": [{"std": std, "points": resolvable(std, seeds, arms) if seeds > 1 else None} for std in stds],
    }
    title = f"Plan of {name}: {study.question}".rstrip(": ")
    return Section("plan", title, sentences, data, Table(columns, rows))


def _study(name: str, config_dir: str) -> Study:
    study, _ = compose_study(name, config_dir)
    if study is None:
        raise ConfigError(f"{name}: is no study; its file has no study: {{arms: ...}}")
    return study


def _stds(groups: list[Group]) -> tuple[list[float], str]:
    """Return the stds to plan with, and where they come from."""
    found = {group.budget: std for group in groups if (std := pooled_std(group.arms)) is not None}
    if found:
        words = ", ".join(f"{std:.2f} at {budget}" for budget, std in found.items())
        return list(found.values()), f"The std is that of the given runs: {words}."
    return list(STDS), (
        "The std between seeds is not known; name RUNS of this or of a similar study. On 5,000 validation images it is "
        "about sqrt(error / 10,000): 0.5 points at 75 %, 0.3 at 90 %."
    )


def _row(std: float, seeds: int, arms: int, resolve: float) -> list[str]:
    points = f"{resolvable(std, seeds, arms):.2f} points" if seeds > 1 else "nothing"
    return [f"{std:.2f}", points, *(f"{seeds_needed(std, difference, arms):,}" for difference in (resolve, 0.5, 1.0))]


def _overhead(groups: list[Group]) -> float | None:
    """Return the median seconds of a run besides its training, or None without runs."""
    seconds = [run.record["seconds"] for group in groups for arm in group.arms for run in arm.runs]
    return statistics.median(part["total"] - part["train"] for part in seconds) if seconds else None


def _minutes(study: Study, overhead: float | None) -> float | None:
    """Return the minutes of all cells, one after the other; None where a budget is no time."""
    lengths = [parse_budget(budget) for budget in study.budgets]
    if any(unit != "s" for _, unit in lengths):
        return None
    extra = OVERHEAD if overhead is None else overhead
    return len(study.arms) * len(study.seeds) * sum(amount + extra for amount, _ in lengths) / 60


def _cost(study: Study, overhead: float | None) -> list[str]:
    per_budget = len(study.arms) * len(study.seeds)
    cells = f"{len(study.arms)} arms x {len(study.seeds)} seeds x {len(study.budgets)} budgets"
    lines = [f"{per_budget * len(study.budgets)} cells: {cells} ({', '.join(study.budgets)})."]
    minutes = _minutes(study, overhead)
    if minutes is None:
        lines.append("How long they take is not known: a budget in steps or epochs is no time.")
    else:
        measured = (
            f"{overhead:.0f} s a cell besides training, as measured" if overhead else f"{OVERHEAD:g} s a cell besides"
        )
        lines.append(f"One after the other they take {minutes:,.0f} minutes ({measured}).")
    return lines
