"""What all figures of a report share: colours, the caption, and files that are the same for every reader."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minuteloop.records.machine import differing, machine_words
from minuteloop.report.arms import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# safe for colour-blind readers (Okabe & Ito 2008, jfly.uni-koeln.de/color; Wong 2011, Nature Methods 8)
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY, "#000000")
GREY, LIGHT = "#666666", "#dddddd"
LABEL, SMALL = 8, 7  # font sizes in points
LEGEND_ABOVE = {  # arguments of Axes.legend for one line above the axes
    "fontsize": SMALL,
    "frameon": False,
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1),
    "borderaxespad": 0.1,
    "handletextpad": 0.2,
    "columnspacing": 0.8,
}
WIDTH = 7.7  # inches of content: 1200 pixels with the margins


def caption(arms: Sequence[Arm]) -> list[str]:
    """Return the parts of a caption: seeds, budgets, hardware, commits and dates of the runs that a figure shows."""
    records = [run.record for arm in arms for run in arm.runs]
    counts = sorted(len(arm.runs) for arm in arms)
    machines = [arm.machine for arm in arms]
    differ = differing(machines)
    hardware = machine_words(machines[0], [key for key in machines[0] if key not in differ])
    codes = [record["code"] for record in records if record["code"]["commit"]]
    commits = sorted({code["commit"][:7] + ("+" if code["dirty"] else "") for code in codes})
    dates = sorted(record["date"][:10] for record in records)
    return [
        f"{records[0]['config']['data']['name']}, budget {', '.join(dict.fromkeys(arm.budget for arm in arms))}",
        f"n = {_span(counts)} seed{'' if counts[-1] == 1 else 's'} an arm",
        hardware + (f"; arms differ in {' and '.join(differ)}" if differ else ""),
        f"commit {', '.join(commits) or 'unknown'}",
        _span(dates),
    ]


def _span(values: list) -> str:
    """Return '3', or '3 to 5', of sorted values."""
    return " to ".join(str(value) for value in dict.fromkeys((values[0], values[-1])))


def plain_axes(axes: Axes, sides: Sequence[str] = ("left", "bottom")) -> None:
    """Leave only a light grid and the given sides of the frame."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(GREY)
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, color=GREY, length=2.5)


def shorten(label: str, most: int = 30) -> str:
    """Return a label of at most `most` characters."""
    return label if len(label) <= most else f"{label[: most - 3]}..."


def svg(figure: Figure) -> str:
    """Return a figure as SVG whose text stays text, byte for byte the same each time."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "minuteloop"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def write_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure to `folder` as NAME.svg and NAME.png."""
    (folder / f"{name}.svg").write_text(svg(figure), encoding="utf-8")
    figure.savefig(folder / f"{name}.png")
