"""Write a report as one HTML page: sections, charts, data and scripts in one file that opens without a network."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minuteloop.report.plots.style import svg
from minuteloop.report.report import facts
from minuteloop.report.section import Section
from minuteloop.validation import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from minuteloop.report.page.charts import Figure
    from minuteloop.report.report import Report

HERE = Path(__file__).parent
BLUE = "#0072b2"  # of the figures, by Okabe and Ito; too dark for a dark page
GREY = 8  # how far the channels of a grey are apart, of 255
NEEDED = {"altair": "altair", "jinja2": "jinja2", "vl_convert": "vl-convert-python"}  # module -> package


def write_page(report: Report, sections: list[Section], file: Path) -> None:
    """Write the page of a report's sections to `file`.

    Raises:
        ConfigError: a missing package, or a file that cannot be written.
    """
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(f"--html {file}: needs {' and '.join(missing)}; run pip install 'minuteloop[report]'")
    html = page(report, sections)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {file}: cannot be written ({error.strerror})") from error


def page(report: Report, sections: list[Section]) -> str:
    """Return the page as HTML; everything that comes from records is escaped."""
    import jinja2

    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {}  # keys in their own order
    charts = {section.name: _charts(report, section) for section in sections}
    specs = {figure.name: figure.spec() for parts in charts.values() for _, figures in parts for figure in figures}
    return environment.get_template("page.html").render(
        title=report.study.get("question") or _title(report),
        facts=facts(report),
        verdicts=_verdicts(report, sections),
        sections=sections,
        charts=charts,
        specs=specs,
        drawings={s.name: _svg(s.figure()) for s in sections if s.figure and not charts[s.name]},
        arms={arm.label for arm in report.arms},
        data={section.name: section.data for section in sections},
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        vega=_vega() if specs else "",
    )


def _title(report: Report) -> str:
    labels = list(dict.fromkeys(arm.label for arm in report.arms))
    return f"Accuracy of {labels[0]}" if len(labels) == 1 else f"Accuracy of {len(labels)} arms"


def _verdicts(report: Report, sections: list[Section]) -> list[dict[str, Any]]:
    """Return, for each group with a baseline, what the comparison found: [{of, baseline, lines}].

    A line is (outcome, labels, verdict): the largest gain first, arms of one verdict in one line.
    """
    compared = next((section.data["effects"] for section in sections if section.name == "compare"), [])
    if report.pairs:
        return []
    groups = []
    for group in report.groups:
        found = sorted(_of_group(compared, group), key=_rank)
        lines: dict[tuple[str, str], list[str]] = {}
        for item in found:
            lines.setdefault((item["outcome"], item["verdict"]), []).append(item["arm"])
        if found:
            texts = [(outcome, labels, verdict) for (outcome, verdict), labels in lines.items()]
            groups.append({"of": group.words, "baseline": found[0]["baseline"], "lines": texts})
    return groups


def _rank(effect: dict[str, Any]) -> tuple[int, float]:
    """Order effects: gains, losses, no difference, unresolved; the largest first."""
    outcome = effect["outcome"]
    return ("better", "worse", "none", "unresolved").index(outcome), -abs(effect["difference"])


def _charts(report: Report, section: Section) -> list[tuple[str, list[Figure]]]:
    """Return the interactive charts of a section: [(words of the group, figures)]; groups share no axis."""
    from minuteloop.report.page import charts

    made = []
    for number, group in enumerate(report.groups):
        if section.name == "table":
            arms, metric = _of_group(section.data["arms"], group), section.data["metric"]
            figures = [
                charts.accuracy(f"accuracy-{number}", arms, metric),
                charts.speed(f"speed-{number}", arms, metric),
            ]
        elif section.name == "compare" and (found := _of_group(section.data["effects"], group)):
            figures = [charts.effects(f"effects-{number}", found, section.data["resolve"])]
        else:
            continue
        made.append((group.words, figures))
    return made


def _of_group(items: list[dict[str, Any]], group: Any) -> list[dict[str, Any]]:
    return [item for item in items if (item["budget"], item["machine"]) == (group.budget, group.machine)]


def _svg(drawing: Drawing) -> str:
    """Return a matplotlib figure as an SVG element with the page's colours and font, its paths to 0.01 points."""
    from markupsafe import Markup

    text = svg(drawing)
    text = re.sub(r"(?<=: )#[0-9a-f]{6}", _themed, text[text.index("<svg") :])
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    return Markup(re.sub(r"\n\s*", "\n", text))


def _themed(colour: re.Match) -> str:
    """Return a grey as a mix of the page's ink and its card, blue as its accent, and other colours as they are."""
    if colour[0] == BLUE:
        return "var(--accent)"
    channels = [int(colour[0][start : start + 2], 16) for start in (1, 3, 5)]
    if max(channels) - min(channels) > GREY:
        return colour[0]
    return f"color-mix(in srgb, var(--ink) {100 - 100 * channels[0] / 255:.0f}%, var(--card))"


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, of the version that altair writes for."""
    import altair
    import vl_convert

    major, minor, _ = altair.SCHEMA_VERSION.removeprefix("v").split(".")
    return vl_convert.javascript_bundle(vl_version=f"{major}.{minor}")
