"""The figure that a multirun ends with: the validation accuracy of its arms, with error bars."""

from __future__ import annotations

import logging
import statistics
import textwrap
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from minuteloop.records.machine import machine_of, machine_words
from minuteloop.study.arms import Arm, arms, differing_machines
from minuteloop.study.cell import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "arms.png"
BLUE, GREY = "#0072b2", "#999999"
LABEL_WIDTH = 48  # characters

log = logging.getLogger("minuteloop")


def draw_arms(cells: list[Cell], sweep: Path) -> None:
    """Write arms.png to the sweep's folder where an arm has an accuracy; log a warning if it cannot be drawn."""
    records = [cell.record() for cell in cells]
    groups = [arm for arm in arms(cells, records) if arm.accuracies]
    if not groups:
        return
    try:
        plot_arms(groups, differing_machines(records), sweep.name).savefig(sweep / FILE)
    except Exception as error:
        log.warning(f"{FILE} was not drawn: {type(error).__name__}: {error}")


def plot_arms(groups: list[Arm], machine_keys: list[str], title: str) -> Figure:
    """Plot mean ± sample std of each arm's val/acc, with a dot for each run; at most 200 characters a label."""
    from matplotlib.figure import Figure

    labels = [_label(arm, machine_keys) for arm in groups]
    lines = [label.count("\n") + 1 for label in labels]
    figure = Figure(figsize=(9, 1.6 + 0.22 * sum(lines) + 0.16 * len(labels)), dpi=150, layout="constrained")
    axes = figure.subplots()
    for row, arm in enumerate(groups):
        percents = [100 * accuracy for accuracy in arm.accuracies]
        axes.plot(percents, [row] * len(percents), "o", color=GREY, markersize=4, zorder=1)
        if len(percents) > 1:
            mean, std = statistics.mean(percents), statistics.stdev(percents)
            axes.errorbar(mean, row, xerr=std, fmt="D", color=BLUE, capsize=4, zorder=2)
    axes.set_yticks(range(len(groups)), labels, fontsize=8)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel("accuracy on the validation split (%): runs, mean ± std over seeds")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(textwrap.fill(_caption(groups, machine_keys), 130), fontsize=7, color="#555555")
    return figure


def _label(arm: Arm, machine_keys: list[str]) -> str:
    machine = f" ({machine_words(arm.machine, machine_keys)})" if machine_keys else ""
    label = textwrap.shorten(f"{arm.label}{machine}, n = {len(arm.finished)}", 200)
    return textwrap.fill(label, LABEL_WIDTH)


def _caption(groups: list[Arm], machine_keys: list[str]) -> str:
    """Return date, hardware and commit."""
    records = [record for arm in groups for record in arm.finished]
    codes = [record.get("code", {}) for record in records]
    commits = sorted({code["commit"][:7] + ("+" if code["dirty"] else "") for code in codes if code.get("commit")})
    equal = [key for key, value in machine_of(records[0]).items() if key not in machine_keys and value is not None]
    parts = [f"{datetime.now():%Y-%m-%d %H:%M}", machine_words(machine_of(records[0]), equal)]
    return "; ".join([*parts, f"commit {', '.join(commits)}"] if commits else parts)
