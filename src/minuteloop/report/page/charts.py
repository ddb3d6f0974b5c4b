"""Interactive charts of arms, as Vega-Lite. Colours are variables of the page's style, so that they follow its theme.

Every chart has a parameter `active`, an arm's label or null: what belongs to other arms fades.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt

ROW = 24  # pixels of an arm's row
TOUCH = 600  # square pixels around a point in which a finger meets it
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
    known = [
        {"arm": arm["arm"], "low": arm["interval"][0], "high": arm["interval"][1]} for arm in arms if arm["interval"]
    ]
    title = f"{metric}, %"
    means = _points(arms, "mean", title).encode(tooltip=_tooltip(arms), color=alt.value("var(--accent)"))
    ticks = _rows(runs).mark_tick(thickness=2, size=12, color="var(--muted)")
    ticks = ticks.encode(x=_x("accuracy", title), tooltip=[alt.Tooltip("accuracy:Q", format=".2f"), "seed:N"])
    whiskers = [item.encode(color=alt.value("var(--accent)")) for item in _whiskers(known, title)]
    caption = "Dot: mean with its 95 % interval. Ticks: single runs."
    touch = _rows(arms).mark_rect(color="transparent").encode(tooltip=_tooltip(arms))
    return Figure(name, "Accuracy", caption, _layer([touch, ticks, *whiskers, means], ROW * len(arms)))


def speed(name: str, arms: list[dict[str, Any]], metric: str) -> Figure:
    """Draw accuracy against measured images/s, and name the arms that no other beats in both."""
    rates = [arm["images/s"] for arm in arms]
    is_log = max(rates) > LOG_FROM * min(rates)
    middle = (max(rates) * min(rates)) ** 0.5 if is_log else (max(rates) + min(rates)) / 2
    front = pareto(arms)
    points = [arm | {"is_left": arm["images/s"] <= middle, "is_best": arm["arm"] in front} for arm in arms]
    scale = alt.Scale(type="log" if is_log else "linear", zero=False, padding=12, nice=not is_log)
    x = alt.X(
        "images/s:Q", title="images/s, forward and backward", scale=scale, axis=alt.Axis(format="~s", tickCount=6)
    )
    y = alt.Y("mean:Q", title=f"{metric}, %", scale=alt.Scale(zero=False, padding=12))
    base = alt.Chart(alt.Data(values=points)).encode(x=x, y=y)
    dots = base.mark_point(filled=True, size=90, color="var(--accent)").encode(opacity=_fade(), tooltip=_tooltip(arms))
    names = [
        base.transform_filter(f"datum.is_left === {flag}")
        .mark_text(align=align, dx=dx, dy=-8, limit=150, color="var(--ink)")
        .encode(text=alt.condition(NAMED, "arm:N", alt.value("")))
        for flag, align, dx in (("true", "left", 8), ("false", "right", -8))
        if any(str(point["is_left"]).lower() == flag for point in points)
    ]
    touch = base.mark_point(filled=True, size=TOUCH, color="transparent").encode(tooltip=_tooltip(arms))
    caption = "Named: no other arm is both faster and more accurate."
    return Figure(name, "Accuracy against speed", caption, _layer([touch, dots, *names], max(200, ROW * len(arms))))


def effects(name: str, found: list[dict[str, Any]], resolve: float) -> Figure:
    """Draw each difference of two arms with its interval, a row each. `found` is the data of the comparison."""
    baselines = {item["baseline"] for item in found}
    rows = [
        item
        | {"row": item["arm"] if len(baselines) == 1 else f"{item['arm']} - {item['baseline']}"}
        | {"kind": verdict_kind(item["verdict"])}
        for item in found
    ]
    known = [row | {"low": row["interval"][0], "high": row["interval"][1]} for row in rows if row["interval"]]
    kinds = list(dict.fromkeys(KINDS.values()))
    colours = alt.Scale(domain=kinds, range=[f"var(--{kind})" for kind in kinds])
    by_kind = {"color": alt.Color("kind:N", scale=colours, legend=None), "tooltip": ["verdict:N"]}
    title = "difference, points" if len(baselines) > 1 else f"difference from {found[0]['baseline']}, points"
    band = alt.Chart(alt.Data(values=[{"low": -resolve, "high": resolve}])).mark_rect(color="var(--band)")
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color="var(--muted)")
    layers = [
        band.encode(x=_x("low", title), x2="high:Q"),
        zero.encode(x=_x("zero", title)),
        _rows(rows, "row").mark_rect(color="transparent").encode(tooltip=["verdict:N"]),
        *(whiskers.encode(**by_kind) for whiskers in _whiskers(known, title, "row")),
        _points(rows, "difference", title, "row").encode(**by_kind),
    ]
    caption = f"Simultaneous 95 % intervals. Band: differences within {resolve:g} points."
    return Figure(name, "Effect", caption, _layer(layers, ROW * len(rows)))


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


def _rows(values: list[dict[str, Any]], row: str = "arm") -> alt.Chart:
    """Return a chart with a row for each value of the field `row`, in the order of `values`."""
    y = alt.Y(f"{row}:N", sort=None, title=None)
    return alt.Chart(alt.Data(values=values)).encode(y=y, opacity=_fade())


def _x(field: str, title: str) -> alt.X:
    """Return the axis that the layers of a chart share: with one title, without zero."""
    axis = alt.Axis(tickCount=alt.ExprRef("ceil(width / 70)"), labelFlush=False)
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(zero=False, padding=8), axis=axis)


def _points(values: list[dict[str, Any]], field: str, title: str, row: str = "arm") -> alt.Chart:
    return _rows(values, row).mark_point(filled=True, size=90).encode(x=_x(field, title))


def _whiskers(values: list[dict[str, Any]], title: str, row: str = "arm") -> list[alt.Chart]:
    """Return a line from `low` to `high` in each row; no layer without values, of which Vega warns."""
    if not values:
        return []
    return [_rows(values, row).mark_rule(strokeWidth=2).encode(x=_x("low", title), x2="high:Q")]


def _tooltip(arms: list[dict[str, Any]]) -> list[alt.Tooltip]:
    names = {"mean": ".2f", "n": "d", "images/s": ",.0f", "epochs": ".2f"}
    return [alt.Tooltip(f"{name}:Q", format=text) for name, text in names.items() if name in arms[0]]


def _layer(layers: list[alt.Chart], height: int) -> alt.LayerChart:
    chart = alt.layer(*layers).add_params(alt.param(name="active", value=None))
    return chart.properties(width="container", height=height).configure(
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
