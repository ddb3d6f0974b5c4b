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
OUTCOMES = ("better", "worse", "none", "unresolved")  # of a comparison; each is a colour of the style

ACTIVE = "active === null || datum.arm === active"
SHOWN = {"mean": ".2f", "n": "d", "images/s": ",.0f", "epochs": ".2f"}  # of an arm that is hovered: key, format
TOOLTIP = [alt.Tooltip(f"{key}:Q", format=text) for key, text in SHOWN.items()]
NAMED = "active === null ? datum.is_best : datum.arm === active"


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


def accuracy(name: str, arms: list[dict[str, Any]], metric: str) -> Figure:
    """Draw each arm's mean accuracy with its interval, and its runs as ticks. `arms` is the table's data."""
    runs = [
        {"arm": arm["arm"], "accuracy": value, "seed": seed}
        for arm in arms
        for value, seed in zip(arm["accuracy"], arm["seeds"], strict=True)
    ]
    means = [_shown(arm) for arm in arms]
    title, accent = f"{metric}, %", alt.value("var(--accent)")
    one_run = [alt.Tooltip("accuracy:Q", format=".2f"), "seed:N"]
    ticks = _rows(runs).mark_tick(thickness=2, size=12, color="var(--muted)")
    whiskers = _whiskers(means, title)
    layers = [
        _rows(means).mark_rect(color="transparent").encode(tooltip=TOOLTIP),
        ticks.encode(x=_x("accuracy", title), tooltip=one_run),
        *(line.encode(color=accent, tooltip=TOOLTIP) for line in whiskers),
        _points(means, "mean", title).encode(color=accent, tooltip=TOOLTIP),
    ]
    caption = f"Dot: mean{' with its 95 % interval' if whiskers else ''}. Ticks: single runs."
    return Figure(name, "Accuracy", caption, _layer(layers, ROW * len(arms)))


def speed(name: str, arms: list[dict[str, Any]], metric: str) -> Figure:
    """Draw accuracy against measured images/s, and name the arms that no other beats in both."""
    rates = [arm["images/s"] for arm in arms]
    is_log = max(rates) > LOG_FROM * min(rates)
    middle = (max(rates) * min(rates)) ** 0.5 if is_log else (max(rates) + min(rates)) / 2
    front = pareto(arms)
    points = [_shown(arm) | {"is_left": arm["images/s"] <= middle, "is_best": arm["arm"] in front} for arm in arms]
    scale = alt.Scale(type="log" if is_log else "linear", zero=False, padding=12, nice=not is_log)
    x = alt.X("images/s:Q", title="images/s, forward and backward", scale=scale, axis=_ticks(format="~s"))
    y = alt.Y("mean:Q", title=f"{metric}, %", scale=alt.Scale(zero=False, padding=12))
    base = alt.Chart(alt.Data(values=points)).encode(x=x, y=y)
    sides = {True: {"align": "left", "dx": 8}, False: {"align": "right", "dx": -8}}  # of a name, by is_left
    layers = [
        base.mark_point(filled=True, size=TOUCH, color="transparent").encode(tooltip=TOOLTIP),
        base.mark_point(filled=True, size=90, color="var(--accent)").encode(opacity=_fade(), tooltip=TOOLTIP),
        *(
            base.transform_filter(f"datum.is_left === {str(is_left).lower()}")
            .mark_text(**side, dy=-8, limit=150, color="var(--ink)")
            .encode(text=alt.condition(NAMED, "arm:N", alt.value("")))
            for is_left, side in sides.items()
            if any(point["is_left"] == is_left for point in points)
        ),
    ]
    caption = "Named: no other arm is as fast and as accurate."
    return Figure(name, "Accuracy against speed", caption, _layer(layers, max(200, ROW * len(arms))))


def effects(name: str, found: list[dict[str, Any]], resolve: float) -> Figure:
    """Draw each difference of two arms with its interval, a row each. `found` is the data of the comparison."""
    baselines = {item["baseline"] for item in found}
    several = len(baselines) > 1
    rows = [
        {key: item[key] for key in ("arm", "difference", "outcome", "verdict")}
        | _ends(item)
        | {"row": f"{item['arm']} - {item['baseline']}" if several else item["arm"]}
        for item in found
    ]
    title = "difference, points" if several else f"difference from {found[0]['baseline']}, points"
    colours = alt.Scale(domain=OUTCOMES, range=[f"var(--{outcome})" for outcome in OUTCOMES])
    style = {"color": alt.Color("outcome:N", scale=colours, legend=None), "tooltip": ["verdict:N"]}
    band = alt.Chart(alt.Data(values=[{"low": -resolve, "high": resolve}])).mark_rect(color="var(--band)")
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color="var(--muted)")
    whiskers = _whiskers(rows, title, "row")
    layers = [
        band.encode(x=_x("low", title), x2="high:Q"),
        zero.encode(x=_x("zero", title)),
        _rows(rows, "row").mark_rect(color="transparent").encode(tooltip=["verdict:N"]),
        *(line.encode(**style) for line in whiskers),
        _points(rows, "difference", title, "row").encode(**style),
    ]
    intervals = "Simultaneous 95 % intervals. " if whiskers else ""
    caption = f"{intervals}Band: differences within {resolve:g} points."
    return Figure(name, "Effect", caption, _layer(layers, ROW * len(rows)))


def pareto(arms: list[dict[str, Any]]) -> set[str]:
    """Return the labels of the arms that no other beats in images/s or accuracy without losing in the other."""
    points = {arm["arm"]: (arm["images/s"], arm["mean"]) for arm in arms}
    return {
        label
        for label, (rate, mean) in points.items()
        if not any(other != (rate, mean) and other[0] >= rate and other[1] >= mean for other in points.values())
    }


def _fade() -> Any:
    return alt.condition(ACTIVE, alt.value(1), alt.value(0.2))


def _rows(values: list[dict[str, Any]], row: str = "arm") -> alt.Chart:
    """Return a chart with a row for each value of the field `row`, in the order of `values`."""
    y = alt.Y(f"{row}:N", sort=None, title=None)
    return alt.Chart(alt.Data(values=values)).encode(y=y, opacity=_fade())


def _x(field: str, title: str) -> alt.X:
    """Return the axis that the layers of a chart share: with one title, without zero."""
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(zero=False, padding=8), axis=_ticks())


def _ticks(**style: str) -> alt.Axis:
    """Return an axis with as many ticks as its width has room for."""
    return alt.Axis(tickCount=alt.ExprRef("ceil(width / 70)"), labelFlush=False, **style)


def _points(values: list[dict[str, Any]], field: str, title: str, row: str = "arm") -> alt.Chart:
    return _rows(values, row).mark_point(filled=True, size=90).encode(x=_x(field, title))


def _whiskers(values: list[dict[str, Any]], title: str, row: str = "arm") -> list[alt.Chart]:
    """Return a line from `low` to `high` in each row that has them; no layer without a row, since Vega warns of it."""
    known = [value for value in values if "low" in value]
    return [_rows(known, row).mark_rule(strokeWidth=2).encode(x=_x("low", title), x2="high:Q")] if known else []


def _shown(arm: dict[str, Any]) -> dict[str, Any]:
    """Return what charts show of an arm of the table's data."""
    return {key: arm[key] for key in ("arm", *SHOWN)} | _ends(arm)


def _ends(item: dict[str, Any]) -> dict[str, float]:
    """Return the ends of an item's interval, {} where it has none."""
    return dict(zip(("low", "high"), item["interval"] or (), strict=False))


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
