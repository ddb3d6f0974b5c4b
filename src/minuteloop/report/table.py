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
    from minuteloop.report.report import Report

Cell = tuple[str, float | None]  # text, and the number behind it


def table(report: Report) -> Section:
    """Return a row for each arm; a column names the machine and budget where they differ."""
    rows = [(group.words, arm) for group in report.groups for arm in group.arms]
    first = report.groups[0].arms[0].runs[0].arm_config
    cells = [[(arm.label, None), *([(words, None)] if words else []), *_figures(arm)] for words, arm in rows]
    with_words = any(words for words, _ in rows)
    columns = ["arm", *(["of"] if with_words else []), *COLUMNS]
    hovers = [_hover(arm, first) for _, arm in rows]
    order = _order(report.sort, columns, cells)
    made = Table(
        columns,
        [[text for text, _ in cells[index]] for index in order],
        [[value for _, value in cells[index]] for index in order],
        [hovers[index] for index in order],
    )
    data = {"arms": [arm_data(arm) for arm in report.arms], "metric": report.metric}
    split = {"val/acc": "validation split", "test/acc": "test set"}.get(report.metric, report.metric)
    sentences = [f"Accuracy is that of the {split}: mean [95 % interval], n = seeds.", *report.notes, *_commits(report)]
    return Section("table", "Arms", sentences, data, made)


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
    "train s": lambda arm: _mean(arm.values("seconds", "train"), ".1f"),
    "images/s": lambda arm: _mean(arm.values("cost", "images_per_second"), ",.0f"),
    "params": lambda arm: _range([params / 1e6 for params in arm.values("cost", "params")], ".2f"),
    "MACs": lambda arm: _range([macs / 1e6 for macs in arm.values("cost", "macs")], ",.1f"),
    "memory": _memory,
}
UNITS = {"params": "params, M", "MACs": "MACs, M", "memory": "memory, MiB"}
COLUMNS = [UNITS.get(name, name) for name in FIGURES]


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
        "lr": sorted(set(arm.values("plan", "lr"))),
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
