"""Interactive charts of arms, as Vega-Lite. Colours are variables of the page's style, so that they follow its theme.

Every chart has a parameter `active`, an arm's label or null: what belongs to other arms fades.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt

ROW = 24  # pixels of an arm's row
LOG_FROM = 4.0  # a ratio of the largest to the smallest speed from which the axis is logarithmic
KINDS = {"better": "better", "worse": "worse", "no": "same", "not": "open"}  # first word of a verdict -> name of it


@dataclass(frozen=True)
class Figure:
    """A chart, its name on the page, its title, and what its marks mean."""

    name: str
    title: str
    caption: str
    chart: alt.LayerChart

    def spec(self) -> dict[str, Any]:
        """Return the chart as a Vega-Lite specification."""
        return self.chart.to_dict()


def verdict_kind(verdict: str) -> str:
    """Return 'better', 'worse', 'same' or 'open' (not resolved), by which a verdict is coloured."""
    return KINDS[verdict.split()[0]]


def accuracy(name: str, arms: list[dict[str, Any]], metric: str) -> Figure:
    """Draw each arm's mean accuracy with its interval, and its runs as dots. `arms` is the table's data."""
    runs = [
        {"arm": arm["arm"], "accuracy": value, "seed": seed}
        for arm in arms
        for value, seed in zip(arm["accuracy"], arm["seeds"], strict=True)
    ]
    x = alt.X("mean:Q", title=f"{metric}, %", scale=alt.Scale(zero=False, padding=8))
    means = _rows(arms).mark_point(filled=True, size=90, color="var(--accent)").encode(x=x, tooltip=_tooltip(arms))
    dots = _rows(runs).mark_tick(thickness=2, size=12, color="var(--muted)")
    dots = dots.encode(x="accuracy:Q", tooltip=[alt.Tooltip("accuracy:Q", format=".2f"), "seed:N"])
    layers = [dots, *_intervals(arms, "var(--accent)"), means]
    return Figure(name, "Accuracy", "Dot: mean with its 95 % interval. Ticks: single runs.", _layer(layers))


def speed(name: str, arms: list[dict[str, Any]], metric: str) -> Figure:
    """Draw accuracy against measured images/s, with the arms that no other beats in both named and joined."""
    rates = [arm["images/s"] for arm in arms]
    is_log = max(rates) > LOG_FROM * min(rates)
    middle = (max(rates) * min(rates)) ** 0.5 if is_log else (max(rates) + min(rates)) / 2
    front = pareto(arms)
    points = [arm | {"is_left": arm["images/s"] <= middle, "is_best": arm["arm"] in front} for arm in arms]
    scale = alt.Scale(type="log" if is_log else "linear", zero=False, padding=12, nice=not is_log)
    x = alt.X("images/s:Q", title="images/s, forward and backward", scale=scale, axis=alt.Axis(format="~s", tickCount=6))
    y = alt.Y("mean:Q", title=f"{metric}, %", scale=alt.Scale(zero=False, padding=12))
    base = alt.Chart(alt.Data(values=points)).encode(x=x, y=y)
    line = base.transform_filter("datum.is_best").mark_line(color="var(--muted)", strokeDash=[4, 4], strokeWidth=1)
    dots = base.mark_point(filled=True, size=90, color="var(--accent)").encode(opacity=_fade(), tooltip=_tooltip(arms))
    names = [
        base.transform_filter(f"datum.is_left === {flag}")
        .mark_text(align=align, dx=dx, dy=-8, color="var(--ink)")
        .encode(text="arm:N", opacity=alt.condition(NAMED, alt.value(1), alt.value(0)))
        for flag, align, dx in (("true", "left", 8), ("false", "right", -8))
    ]
    caption = "Named and joined: no other arm is both faster and more accurate."
    return Figure(name, "Accuracy against speed", caption, _layer([line, dots, *names], height=max(260, ROW * len(arms))))


def effects(name: str, found: list[dict[str, Any]], resolve: float) -> Figure:
    """Draw each arm's difference from the baseline with its interval. `found` is the comparison's data."""
    rows = [
        item
        | {"kind": verdict_kind(item["verdict"]), "text": f"{item['difference']:+.2f}"}
        | ({"low": item["interval"][0], "high": item["interval"][1]} if item["interval"] else {})
        for item in found
    ]
    baseline = found[0]["baseline"]
    band = alt.Chart(alt.Data(values=[{"low": -resolve, "high": resolve}]))
    band = band.mark_rect(color="var(--band)").encode(x="low:Q", x2="high:Q")
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color="var(--muted)").encode(x="zero:Q")
    kinds = list(dict.fromkeys(KINDS.values()))
    colours = alt.Scale(domain=kinds, range=[f"var(--{kind})" for kind in kinds])
    colour = alt.Color("kind:N", scale=colours, legend=None)
    x = alt.X("difference:Q", title=f"difference from {baseline}, points")
    tooltip = ["verdict:N"]
    points = _rows(rows).mark_point(filled=True, size=90).encode(x=x, color=colour, tooltip=tooltip)
    whiskers = _rows([row for row in rows if "low" in row]).mark_rule(strokeWidth=2)
    whiskers = whiskers.encode(x=alt.X("low:Q", title=None), x2="high:Q", color=colour, tooltip=tooltip)
    caption = f"Simultaneous 95 % intervals. Band: differences within {resolve:g} points."
    return Figure(name, "Difference from the baseline", caption, _layer([band, zero, whiskers, points]))


def pareto(arms: list[dict[str, Any]]) -> set[str]:
    """Return the labels of the arms that no other beats in both images/s and mean accuracy."""
    return {
        arm["arm"]
        for arm in arms
        if not any(other["images/s"] > arm["images/s"] and other["mean"] > arm["mean"] for other in arms)
    }


ACTIVE = "active === null || datum.arm === active"
NAMED = "active === null ? datum.is_best : datum.arm === active"


def _fade() -> Any:
    return alt.condition(ACTIVE, alt.value(1), alt.value(0.2))


def _rows(values: list[dict[str, Any]]) -> alt.Chart:
    """Return a chart with a row for each arm, in the order of `values`."""
    y = alt.Y("arm:N", sort=None, title=None)
    return alt.Chart(alt.Data(values=values)).encode(y=y, opacity=_fade())


def _intervals(arms: list[dict[str, Any]], colour: str) -> list[alt.Chart]:
    known = [{"arm": arm["arm"], "low": arm["interval"][0], "high": arm["interval"][1]} for arm in arms if arm["interval"]]
    rules = _rows(known).mark_rule(strokeWidth=2, color=colour)
    return [rules.encode(x=alt.X("low:Q", title=None), x2="high:Q")] if known else []


def _tooltip(arms: list[dict[str, Any]]) -> list[alt.Tooltip]:
    names = {"mean": ".2f", "n": "d", "images/s": ",.0f", "epochs": ".2f"}
    return [alt.Tooltip(f"{name}:Q", format=text) for name, text in names.items() if name in arms[0]]


def _layer(layers: list[alt.Chart], height: int | None = None) -> alt.LayerChart:
    chart = alt.layer(*layers).add_params(alt.param(name="active", value=None))
    return chart.properties(width="container", height=height or alt.Step(ROW)).configure(
        background="transparent",
        font="system-ui, sans-serif",
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelColor="var(--ink)",
            titleColor="var(--muted)",
            gridColor="var(--line)",
            domain=False,
            tickColor="var(--line)",
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
        ),
        axisY=alt.AxisConfig(ticks=False, labelPadding=8),
        text=alt.MarkConfig(fontSize=12),
    )
