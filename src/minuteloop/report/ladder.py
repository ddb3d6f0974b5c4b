"""The roadmap as a ladder: what each rung gives, what it costs, and what the ConvNeXt paper found on ImageNet."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from minuteloop.report.arms import Arm, Group
from minuteloop.report.compare import effect_data, effect_text, effects_of, warnings
from minuteloop.report.section import Section, Table
from minuteloop.report.statistics.effects import Effect, interval, neighbours
from minuteloop.report.statistics.verdicts import outcome, verdict
from minuteloop.report.table import accuracy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minuteloop.report.report import Report

RUNG_BEFORE = "the rung before"
KINDS = {  # of a study -> title, what a rung is compared with
    "cumulative": ("Ladder", RUNG_BEFORE),
    "add_one": ("Ladder: one added", "the baseline"),
    "drop_one": ("Ladder: one left out", "the baseline"),
}
FAR_COST = 0.1  # fraction by which MACs and time must move for a rung to be named because they move apart


@dataclass(frozen=True)
class Rung:
    """An arm of a ladder: the names that it adds (or leaves out), its effects and what the paper found.

    `effect` is against what KINDS names and `total` against the baseline; both None for the baseline itself. `paper` is
    the paper's difference of the same steps, in points.
    """

    arm: Arm
    names: list[str]
    effect: Effect | None
    total: Effect | None
    paper: float | None

    @property
    def macs(self) -> float:
        """Multiply-adds of an image, in millions."""
        return statistics.mean(self.arm.values("cost", "macs")) / 1e6

    @property
    def milliseconds(self) -> float:
        """Measured milliseconds of a training step."""
        return statistics.mean(
            1000 * run.record["plan"]["batch_size"] / run.record["cost"]["images_per_second"] for run in self.arm.runs
        )


@cache
def paper() -> dict[str, Any]:
    """Return the paper's roadmap: {"source", "start", "steps": {name: {"accuracy", "std", "part"}}}."""
    return yaml.safe_load(Path(__file__).with_name("convnext_paper.yaml").read_text())


def paper_differences() -> dict[str, float]:
    """Return {step: what it gave in the paper, in points}."""
    before, differences = paper()["start"]["accuracy"], {}
    for name, step in paper()["steps"].items():
        differences[name], before = step["accuracy"] - before, step["accuracy"]
    return differences


def ladder(report: Report) -> Section | None:
    """Return the rungs of a study that adds or leaves out one step or ingredient at a time; None for other runs."""
    kind, names = report.study.get("kind"), report.study.get("arms", {})
    if kind not in KINDS:
        return None
    groups = sorted(report.groups, key=lambda group: group.train_seconds)
    ladders = [(group, rungs) for group in groups if len(rungs := rungs_of(report, group)) > 1]
    if not ladders:
        return None
    title, against = KINDS[kind]
    data = {"kind": kind, "key": report.study.get("key"), "paper": paper()["source"], "rungs": []}
    sentences = []
    for group, rungs in ladders:
        data["rungs"] += [_data(rung, report.resolve) for rung in rungs]
        of = f" ({group.words})" if group.words else ""
        lines = [*_summary(rungs, report.resolve), *_like_the_paper(rungs), *_costs(rungs, kind), *warnings(group)]
        sentences += [f"{line}{of}." for line in lines]
    if missing := [name for name in names if all(name != rung.arm.label for _, rungs in ladders for rung in rungs)]:
        sentences.append(f"Without a finished run: {', '.join(missing)}.")
    if _has_paper(ladders):
        sentences.append(f"Paper: {_paper_words(kind)}.")
    made = _table(ladders, kind, against, report.resolve)
    return Section("ladder", title, sentences, data, made, lambda: _draw(report, ladders, against))


def rungs_of(report: Report, group: Group) -> list[Rung]:
    """Return the rungs of a group, in the study's order."""
    kind, key, names = report.study["kind"], report.study["key"], report.study["arms"]
    arms = [arm for arm in group.arms if arm.label in names]
    baseline = report.baseline_of(group)
    totals = effects_of(group, baseline)
    effects = effects_of_rungs(names, group) if kind == "cumulative" else totals
    rungs = []
    for before, arm in zip([None, *arms], arms, strict=False):
        reference = before if kind == "cumulative" else baseline
        changed = _changed(names, reference, arm, key, kind) if reference else []
        rungs.append(Rung(arm, changed, effects.get(arm.label), totals.get(arm.label), _paper(changed, key, kind)))
    return rungs


def effects_of_rungs(names: dict[str, list[str]], group: Group) -> dict[str, Effect]:
    """Return {label: effect against the rung before} of the arms of a cumulative study, {label: overrides}."""
    return neighbours({arm.label: arm.percents for arm in group.arms if arm.label in names})


def _changed(names: dict[str, list[str]], reference: Arm, arm: Arm, key: str, kind: str) -> list[str]:
    """Return the names that an arm adds to those of `reference`, or leaves out."""
    more, fewer = (_listed(names.get(each.label, []), key) for each in (arm, reference))
    if kind == "drop_one":
        more, fewer = fewer, more
    return [name for name in more if name not in fewer]


def _listed(overrides: list[str], key: str) -> list[str]:
    """Return the names in the override KEY=[a,b] of an arm."""
    lists = [text.partition("=")[2] for text in overrides if text.lstrip("+").partition("=")[0] == key]
    return [name.strip() for text in lists for name in text.strip("[]").split(",") if name.strip()]


def _paper(names: list[str], key: str, kind: str) -> float | None:
    """Return what the paper found for these steps together, with the sign of adding or of leaving out."""
    known = paper_differences()
    if key != "modernization" or not names or not set(names) <= set(known):
        return None
    return sum(known[name] for name in names) * (-1 if kind == "drop_one" else 1)


def _has_paper(ladders: list[tuple[Group, list[Rung]]]) -> bool:
    return any(rung.paper is not None for _, rungs in ladders for rung in rungs)


def _summary(rungs: list[Rung], resolve: float) -> list[str]:
    """Return from where to where a ladder goes, and which rungs gain, cost, and are not resolved."""
    lines = []
    last = rungs[-1]
    if rungs[0].total is None and last.effect is not last.total:
        lines.append(
            f"From {rungs[0].arm.label} to {last.arm.label}: {rungs[0].arm.mean:.2f} to {last.arm.mean:.2f} %, "
            f"{effect_text(last.total)} points"
        )
    outcomes = {rung.arm.label: outcome(rung.effect, resolve) for rung in rungs if rung.effect is not None}
    none = f"No difference beyond {resolve:g} points"
    headings = {"better": "Better", "worse": "Worse", "none": none, "unresolved": "Not resolved"}
    for each, words in headings.items():
        labels = [label for label, found in outcomes.items() if found == each]
        lines += [f"{words}: {', '.join(labels)}"] if labels else []
    return lines


def _like_the_paper(rungs: list[Rung]) -> list[str]:
    """Return how many rungs that gain or cost go the way that they go in the paper."""
    resolved = [
        rung
        for rung in rungs
        if rung.paper is not None and rung.effect is not None and outcome(rung.effect) in ("better", "worse")
    ]
    if not resolved:
        return []
    other = [rung.arm.label for rung in resolved if (rung.paper > 0) != (rung.effect.difference > 0)]
    but = f"; the other way: {', '.join(other)}" if other else ""
    agree = len(resolved) - len(other)
    return [f"Resolved rungs that go the way they go in the paper: {agree} of {len(resolved)}{but}"]


def _costs(rungs: list[Rung], kind: str) -> list[str]:
    """Return the rungs whose MACs and milliseconds move apart."""
    lines = []
    for before, rung in itertools.pairwise(rungs):
        reference = before if kind == "cumulative" else rungs[0]
        macs = rung.macs / reference.macs - 1
        time = rung.milliseconds / reference.milliseconds - 1
        if macs * time < 0 and min(abs(macs), abs(time)) > FAR_COST:
            lines.append(f"{rung.arm.label}: {_percent(macs)} MACs but {_percent(time)} milliseconds a step")
    return lines


def _percent(change: float) -> str:
    return f"{abs(change):.0%} {'fewer' if change < 0 else 'more'}"


def _paper_words(kind: str) -> str:
    """Return what the paper's differences are."""
    stds = [step["std"] for step in paper()["steps"].values()]
    how = {
        "cumulative": "each step on top of those before it",
        "add_one": "where steps were added on top of one another, not alone",
        "drop_one": "minus what adding the step gave, on top of those before it",
    }[kind]
    return f"{paper()['source']}, std {min(stds):g} to {max(stds):g}; {how}"


def _table(ladders: list[tuple[Group, list[Rung]]], kind: str, against: str, resolve: float) -> Table:
    with_words, with_paper = any(group.words for group, _ in ladders), _has_paper(ladders)
    is_cumulative = kind == "cumulative"
    columns = ["rung", *(["of"] if with_words else []), "accuracy", "n", f"against {against}, points [95 %]", "verdict"]
    columns += [*(["against the baseline"] if is_cumulative else []), *(["paper, points"] if with_paper else [])]
    columns += ["MACs, M", "ms/step"]
    rows = []
    for group, rungs in ladders:
        for rung in rungs:
            cells = [(rung.arm.label, None), *([(group.words, None)] if with_words else []), accuracy(rung.arm)]
            cells += [(str(len(rung.arm.runs)), len(rung.arm.runs)), _effect_cell(rung.effect)]
            cells += [(verdict(rung.effect, resolve) if rung.effect else "", None)]
            cells += [_effect_cell(rung.total)] if is_cumulative else []
            cells += [("" if rung.paper is None else f"{rung.paper:+.2f}", rung.paper)] if with_paper else []
            cells += [(f"{rung.macs:,.1f}", rung.macs), (f"{rung.milliseconds:,.1f}", rung.milliseconds)]
            rows.append(cells)
    return Table(columns, [[text for text, _ in row] for row in rows], [[value for _, value in row] for row in rows])


def _effect_cell(effect: Effect | None) -> tuple[str, float | None]:
    return ("", None) if effect is None else (effect_text(effect), effect.difference)


def _data(rung: Rung, resolve: float) -> dict[str, Any]:
    arm = rung.arm
    found = interval(arm.percents)
    return {
        "arm": arm.label,
        "names": rung.names,
        "budget": arm.budget,
        "machine": arm.machine,
        "n": len(arm.runs),
        "mean": found.mean,
        "interval": None if found.low is None else [found.low, found.high],
        "effect": _effect_data(rung.effect, resolve),
        "total": _effect_data(rung.total, resolve),
        "paper": rung.paper,
        "macs": 1e6 * rung.macs,
        "milliseconds": rung.milliseconds,
    }


def _effect_data(effect: Effect | None, resolve: float) -> dict[str, Any] | None:
    return None if effect is None else effect_data(effect) | {"verdict": verdict(effect, resolve)}


def _draw(report: Report, ladders: list[tuple[Group, list[Rung]]], against: str) -> Figure:
    from minuteloop.report.plots.ladder import plot_ladder

    title = report.study.get("question") or "What each rung gives"
    words = _paper_words(report.study["kind"]) if _has_paper(ladders) else ""
    return plot_ladder([(group.words, rungs) for group, rungs in ladders], title, against, report.metric, words)
