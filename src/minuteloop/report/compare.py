"""Compare each arm with the baseline: the effect, its simultaneous interval, and a verdict in words."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from minuteloop.records.summary import strength_words
from minuteloop.report.arms import Arm, Group, pooled_std
from minuteloop.report.section import Section, Table
from minuteloop.report.statistics.effects import Effect, against_baseline, all_pairs
from minuteloop.report.statistics.seeds import winners_inflation
from minuteloop.report.statistics.verdicts import outcome, verdict
from minuteloop.study.confirm import confirm
from minuteloop.study.design import Study
from minuteloop.validation import ConfigError

if TYPE_CHECKING:
    from minuteloop.report.report import Report

FAR_STEPS = 1.03  # arms whose steps differ by more than this factor were not trained alike
FAR_SECONDS = 1.05  # arms whose training times differ by more than this factor had not the same budget


def compare(report: Report) -> Section | None:
    """Return a row for each arm but the baseline, or for all pairs; None where no group has two arms."""
    groups = [group for group in report.groups if len(group.arms) > 1]
    if not groups:
        return None
    rows, values, found, sentences, unfair = [], [], [], [], []
    several = any(group.words for group in groups)
    for group in groups:
        of = f" ({group.words})" if group.words else ""
        baseline = report.baseline_of(group)
        effects = (
            _pairs(group)
            if report.pairs
            else {(arm, baseline.label): e for arm, e in effects_of(group, baseline).items()}
        )
        for (arm, other), effect in effects.items():
            words = verdict(effect, report.resolve)
            label = f"{arm} - {other}" if report.pairs else arm
            rows.append([label, *([group.words] if several else []), effect_text(effect), _p(effect), words])
            values.append([None, *([None] if several else []), effect.difference, effect.p, None])
            answer = {"outcome": outcome(effect, report.resolve), "verdict": words}
            found.append(_data(arm, other, group, effect) | answer)
        if not report.pairs:
            sentences.append(f"Baseline{of}: {baseline.label}, {baseline.mean:.2f} %, n = {len(baseline.runs)}.")
        unfair += [f"{line}{of}." for line in warnings(group)]
        sentences += [f"{line}{of}." for line in (*_method(effects.values()), *_winner(group, baseline))]
    columns = ["arm", *(["of"] if several else []), "difference, points [95 %]", "p", "verdict"]
    data = {"effects": found, "resolve": report.resolve, "warnings": unfair}
    title = "All pairs" if report.pairs else "Against the baseline"
    return Section("compare", title, [*sentences, *unfair], data, Table(columns, rows, values))


def _pairs(group: Group) -> dict[tuple[str, str], Effect]:
    return all_pairs({arm.label: arm.percents for arm in group.arms})


def effects_of(group: Group, baseline: Arm) -> dict[str, Effect]:
    """Return {label: effect against the baseline} of the other arms of a group, in points."""
    return against_baseline({arm.label: arm.percents for arm in group.arms}, baseline.label)


def effect_text(effect: Effect) -> str:
    """Return '+0.62 [+0.21, +1.03]', without the interval where there is none."""
    if effect.low is None:
        return f"{effect.difference:+.2f}"
    return f"{effect.difference:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]"


def _p(effect: Effect) -> str:
    return "-" if effect.p is None else f"{effect.p:.3f}" if effect.p >= 0.001 else "< 0.001"


def _data(label: str, other: str, group: Group, effect: Effect) -> dict[str, Any]:
    return {"arm": label, "baseline": other, "budget": group.budget, "machine": group.machine} | effect_data(effect)


def effect_data(effect: Effect) -> dict[str, Any]:
    """Return an effect for programs."""
    return {
        "difference": effect.difference,
        "interval": None if effect.low is None else [effect.low, effect.high],
        "p": effect.p,
        "n": effect.n,
        "method": effect.method,
    }


def _method(effects: Iterable[Effect]) -> list[str]:
    return [f"Method: {method}" for method in dict.fromkeys(effect.method for effect in effects)]


def _winner(group: Group, baseline: Arm) -> list[str]:
    """Return by how much the best arm probably looks better than it is, because it was chosen."""
    best = max(group.arms, key=lambda arm: arm.mean)
    spread = pooled_std(group.arms)
    if len(group.arms) < 3 or best is baseline or spread is None:
        return []
    n = min(len(arm.runs) for arm in group.arms)
    excess = winners_inflation(spread, len(group.arms), n)
    return [
        f"{best.label} is the best of {len(group.arms)}: of equal arms the best would look {excess:.2f} points better "
        "than it is; --confirm trains it and the baseline again with fresh seeds"
    ]


def warnings(group: Group) -> list[str]:
    """Return what makes a comparison of the group's arms unfair: strength, steps, seconds, one lr for all nets."""
    lines = []
    strengths = dict.fromkeys(strength_words(*(run.record["plan"] for run in arm.runs)) for arm in group.arms)
    if len(strengths) > 1:
        lines.append(f"Arms differ in strength: {' / '.join(strengths)}")
    steps = [statistics.mean(run.record["steps"] for run in arm.runs) for arm in group.arms]
    if max(steps) > FAR_STEPS * min(steps):
        lines.append(f"Arms differ in steps: {min(steps):,.0f} to {max(steps):,.0f}; they had the same budget")
    seconds = [statistics.mean(arm.values("seconds", "train")) for arm in group.arms]
    if group.budget_seconds and max(seconds) > FAR_SECONDS * min(seconds):
        lines.append(
            f"Arms trained {min(seconds):.1f} to {max(seconds):.1f} s of {group.budget_seconds:g}: a budget becomes "
            "steps by one measurement of an arm's rate, whose error more seeds do not average out"
        )
    if group.budget_seconds and (apart := _trained_apart(group)):
        lines.append(f"Not trained side by side with the other arms, so that a drift of the machine counts: {apart}")
    archs = {run.record["config"]["arch"]["name"] for arm in group.arms for run in arm.runs}
    rates = {rate for arm in group.arms for rate in arm.values("plan", "lr")}
    if len(archs) > 1 and len(rates) == 1:
        lines.append(f"All nets trained with one learning rate, {rates.pop():.3g}, which suits some better than others")
    return lines


def _trained_apart(group: Group) -> str:
    """Return the labels of arms that began and ended before or after most others; arms of one run are not judged."""
    dates = {arm.label: sorted(run.record["date"] for run in arm.runs) for arm in group.arms if len(arm.runs) > 1}
    spans: list[tuple[str, list[str]]] = []  # the end of a time without a gap, and the arms in it
    for label in sorted(dates, key=lambda label: dates[label][0]):
        first, *_, last = dates[label]
        if spans and first <= spans[-1][0]:
            spans[-1] = max(spans[-1][0], last), [*spans[-1][1], label]
        else:
            spans.append((last, [label]))
    most = max((labels for _, labels in spans), key=len, default=[])
    return ", ".join(label for label in dates if label not in most)


def confirmed(report: Report, config_dir: str) -> Section:
    """Train the best arm and the baseline again with fresh seeds, as many as they had, and compare these runs alone.

    Raises:
        ConfigError: the runs are of no study, of several budgets or machines, or the baseline is the best.
    """
    from minuteloop.report.report import read_report

    if not report.study:
        raise ConfigError("--confirm: needs the runs of one study (python train.py -cn NAME)")
    if len(report.groups) > 1:
        raise ConfigError("--confirm: the runs are of several budgets or machines; choose with --where budget=60s")
    (group,) = report.groups
    study, baseline = Study(**report.study), report.baseline_of(group)
    best = max(group.arms, key=lambda arm: arm.mean)
    if best is baseline or baseline.label != study.baseline:
        raise ConfigError(f"--confirm: the best arm must be another than the study's baseline {study.baseline}")
    seen = {run.seed for arm in group.arms for run in arm.runs}
    count = max(len(best.runs), len(baseline.runs))
    seeds = list(range(max(seen) + 1, max(seen) + 1 + count))
    own = {*study.arms[best.label], f"seed={best.runs[0].seed}", f"budget={group.budget}"}
    typed = [override for override in best.runs[0].overrides if override not in own]
    folder = confirm(study, best.label, typed, group.budget, seeds, config_dir)
    fresh = read_report([folder], metric=report.metric, baseline=study.baseline, resolve=report.resolve)
    section = compare(fresh)
    before = effects_of(group, baseline)[best.label]
    return Section(
        "confirm",
        f"Confirmation with fresh seeds {seeds[0]} to {seeds[-1]}",
        [f"In the study {best.label} was {verdict(before, report.resolve)}.", *section.sentences, f"Runs: {folder}"],
        section.data,
        section.table,
    )
