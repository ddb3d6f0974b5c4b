"""The figure of the README: parameters and MACs of each rung from ResNet-50 to ConvNeXt-T."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from minuteloop.nets.flops import Cost

BARS = (("#4878a8", "parameters", "M", 1e6), ("#c8803c", "MACs at 224 px", "G", 1e9))  # color, title, unit, scale
SVG = {"svg.fonttype": "none", "svg.hashsalt": "minuteloop", "font.family": "sans-serif", "font.size": 10}


def label(cost: Cost) -> tuple[str, str]:
    """Return parameters and MACs as the figure prints them."""
    return f"{cost.params / 1e6:.1f}M", f"{cost.macs / 1e9:.2f}G"


def ladder_svg(rungs: Sequence[tuple[str, Cost]]) -> str:
    """Return an SVG with a row of two bars for each rung."""
    names = [rungs[0][0], *(f"+ {name}" for name, _ in rungs[1:])]
    names[-1] += " = ConvNeXt-T"
    with matplotlib.rc_context(SVG):
        figure = Figure(figsize=(9, 0.29 * len(rungs) + 0.8), layout="constrained", facecolor="white")
        both_axes = figure.subplots(1, 2, sharey=True)
        labels = zip(*(label(cost) for _, cost in rungs), strict=True)
        values = ([cost.params for _, cost in rungs], [cost.macs for _, cost in rungs])
        for axes, (color, title, _, scale), heights, texts in zip(both_axes, BARS, values, labels, strict=True):
            bars = axes.barh(range(len(rungs)), [height / scale for height in heights], color=color, height=0.66)
            axes.bar_label(bars, texts, padding=4)
            axes.set_title(title, loc="left")
            axes.set_xticks([])
            axes.margins(x=0.16, y=0.01)
            axes.spines[:].set_visible(False)
            axes.tick_params(left=False)
        both_axes[0].set_yticks(range(len(rungs)), names)
        both_axes[0].invert_yaxis()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
