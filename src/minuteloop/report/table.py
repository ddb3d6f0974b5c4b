"""The table of a report: what each arm reached, in how many steps and seconds, at what cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minuteloop.records.summary import strength_words
from minuteloop.report.arms import Arm
from minuteloop.report.runs import differing_keys
from minuteloop.report.section import Section, Table
from minuteloop.report.statistics.effects import interval
from minuteloop.validation import ConfigError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minuteloop.report.report import Report

Cell = tuple[str, float | None]  # text, and the number behind it


def table(report: Report) -> Section:
    """Return a row for each arm; a column names the machine and budget where they differ.

    A column of MOVED in which all rows agree becomes a sentence.
    """
    rows = [(group.words, arm) for group in report.groups for arm in group.arms]
    first = report.groups[0].arms[0].runs[0].arm_config
    cells = [[(arm.label, None), *([(words, None)] if words else []), *_figures(arm)] for words, arm in rows]
    with_words = any(words for words, _ in rows)
    columns = ["arm", *(["of"] if with_words else []), *COLUMNS]
    hovers = [_hover(arm, first) for _, arm in rows]
    order = _order(report.sort, columns, cells)
    equal = _equal(columns, cells)
    kept = [index for index, column in enumerate(columns) if column not in equal]
    made = Table(
        [columns[index] for index in kept],
        [[cells[row][index][0] for index in kept] for row in order],
        [[cells[row][index][1] for index in kept] for row in order],
        [hovers[row] for row in order],
    )
    notes = [*report.notes, *_commits(report), *(doubt for arm in report.arms for doubt in arm.doubts())]
    data = {"arms": [arm_data(arm) for arm in report.arms], "metric": report.metric, "notes": notes}
    split = {"val/acc": "validation split", "test/acc": "test set"}.get(report.metric, report.metric)
    sentences = [f"Accuracy is that of the {split}: mean [95 % interval], n = seeds."]
    sentences += [f"In all rows: {'; '.join(map(_with_unit, equal.items()))}."] if equal else []
    return Section("table", "Arms", [*sentences, *notes], data, made, lambda: _draw(report))


def _draw(report: Report) -> Figure:
    from minuteloop.report.plots.arms import plot_arms

    rows = [
        (f"{arm.label} ({group.words})" if group.words else arm.label, arm)
        for group in report.groups
        for arm in group.arms
    ]
    return plot_arms(rows, report.study.get("question") or "Accuracy of each arm", report.metric)


def _equal(columns: list[str], cells: list[list[Cell]]) -> dict[str, str]:
    """Return {column: text} of the columns of MOVED in which two or more rows agree."""
    texts = {column: {row[index][0] for row in cells} for index, column in enumerate(columns) if column in MOVED}
    return {column: found.pop() for column, found in texts.items() if len(found) == 1 and len(cells) > 1}


def _with_unit(item: tuple[str, str]) -> str:
    name, _, unit = item[0].partition(", ")
    return f"{name} {item[1]} {unit}".rstrip()


def _order(sort: str | None, columns: list[str], cells: list[list[Cell]]) -> list[int]:
    """Return the order of rows: by a column, numbers from the largest, texts from A. Raises ConfigError."""
    indices = list(range(len(cells)))
    if sort is None:
        return indices
    if sort not in columns:
        raise ConfigError(f"--sort {sort}: must be a column of the table{did_you_mean(sort, columns)}")
    column = columns.index(sort)
    return sorted(
        indices,
        key=lambda index: (cells[index][column][1] is None, -(cells[index][column][1] or 0), cells[index][column][0]),
    )


def accuracy(arm: Arm) -> Cell:
    """Return the mean accuracy with its 95 % interval, in percent; one run has no interval."""
    found = interval(arm.percents)
    spread = f" [{found.low:.2f}, {found.high:.2f}]" if len(arm.runs) > 1 else ""
    return f"{found.mean:.2f} %{spread}", found.mean


def _range(values: list[float], format_: str) -> Cell:
    texts = list(dict.fromkeys(f"{value:{format_}}" for value in sorted(values)))
    return f"{texts[0]}{f' to {texts[-1]}' if len(texts) > 1 else ''}", statistics.mean(values)


def _mean(values: list[float], format_: str) -> Cell:
    mean = statistics.mean(values)
    return f"{mean:{format_}}", mean


def _strength(arm: Arm) -> Cell:
    return strength_words(*(run.record["plan"] for run in arm.runs)), None


def _memory(arm: Arm) -> Cell:
    peaks = [run.record["cost"].get("peak_memory_bytes") for run in arm.runs]
    return ("-", None) if None in peaks else _mean([peak / 2**20 for peak in peaks], ",.0f")


FIGURES: dict[str, Callable[[Arm], Cell]] = {
    "accuracy": accuracy,
    "n": lambda arm: (str(len(arm.runs)), len(arm.runs)),
    "steps": lambda arm: _range([run.record["steps"] for run in arm.runs], ",d"),
    "epochs": lambda arm: _range(arm.values("plan", "epochs"), ".2f"),
    "strength": _strength,
    "lr": lambda arm: _range(arm.values("plan", "lr"), ".3g"),
    "train s": lambda arm: _mean(arm.values("seconds", "train"), ".1f"),
    "images/s": lambda arm: _mean(arm.values("cost", "images_per_second"), ",.0f"),
    "params": lambda arm: _range([params / 1e6 for params in arm.values("cost", "params")], ".2f"),
    "MACs": lambda arm: _range([macs / 1e6 for macs in arm.values("cost", "macs")], ",.1f"),
    "memory": _memory,
}
UNITS = {"params": "params, M", "MACs": "MACs, M", "memory": "memory, MiB"}
COLUMNS = [UNITS.get(name, name) for name in FIGURES]
MOVED = ("steps", "epochs", "strength", "lr", "params, M", "MACs, M", "memory, MiB")  # to a line, where all rows agree


def _figures(arm: Arm) -> list[Cell]:
    return [figure(arm) for figure in FIGURES.values()]


def arm_data(arm: Arm) -> dict[str, Any]:
    """Return an arm for programs: accuracies in percent by seed, and the means of the table's figures."""
    figures = {name: figure(arm)[1] for name, figure in FIGURES.items() if name not in ("accuracy", "n", "strength")}
    found = interval(arm.percents)
    return {
        "arm": arm.label,
        "budget": arm.budget,
        "machine": arm.machine,
        "n": len(arm.runs),
        "seeds": [run.seed for run in arm.runs],
        "accuracy": arm.percents,
        "mean": found.mean,
        "interval": [found.low, found.high] if len(arm.runs) > 1 else None,
        "strength": _strength(arm)[0],
        **figures,
        "overrides": arm.runs[0].overrides,
    }


def _hover(arm: Arm, first: dict[str, Any]) -> str:
    config = arm.runs[0].arm_config
    keys = differing_keys([first, config])
    return "\n".join(f"{key}={config.get(key)}" for key in keys[:20]) or "the config of the first arm"


def _commits(report: Report) -> list[str]:
    commits = {run.record["code"].get("commit") for arm in report.arms for run in arm.runs} - {None}
    return [f"The runs are of {len(commits)} commits."] if len(commits) > 1 else []
