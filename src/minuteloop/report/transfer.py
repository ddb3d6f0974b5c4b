"""Do the ranks and effects of a short budget hold for a longer one, and what does trusting it cost?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minuteloop.records.machine import differing, machine_words
from minuteloop.report.arms import Group
from minuteloop.report.compare import effect_data, effect_text, effects_of
from minuteloop.report.ladder import RUNG_BEFORE, effects_of_rungs
from minuteloop.report.section import Section, Table
from minuteloop.report.statistics.effects import Effect
from minuteloop.report.statistics.rank_transfer import FEWEST_ARMS, Agreement, RankTransfer, rank_transfer
from minuteloop.report.statistics.verdicts import carries_over, transfer_sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minuteloop.report.report import Report


@dataclass(frozen=True)
class SharedArms:
    """The arms that all budgets of one machine have in common: a group for each budget, the shortest first.

    `effects` are {arm: effect against what `against` names} for each budget: the rung before in a study that adds one
    step after the other, so that an effect is that of the step, else the baseline. `left_out` are arms that a budget
    lacks; `words` name the machine where a report has several.
    """

    groups: list[Group]
    baseline: str
    against: str
    effects: list[dict[str, Effect]]
    left_out: list[str]
    words: str

    @property
    def budgets(self) -> list[str]:
        """The budgets, the shortest first."""
        return [group.budget for group in self.groups]


def transfer(report: Report) -> Section | None:
    """Compare the shortest budget with each longer one; None where no machine has several budgets of three arms."""
    machines = shared_arms(report)
    if not machines:
        return None
    sentences, rows, values, data = [], [], [], []
    for shared in machines:
        of = f" ({shared.words})" if shared.words else ""
        for longer in range(1, len(shared.groups)):
            ranks = rank_transfer(*(_percents(shared.groups[index]) for index in (0, longer)))
            sentences += [f"{line}{of}." for line in _rank_lines(shared, longer, ranks)]
            data.append(_data(shared, longer, ranks, report.resolve))
        sentences += [f"{line}{of}." for line in _arm_lines(shared, report.resolve)]
        if shared.left_out:
            sentences.append(f"Left out, without a run at every budget: {', '.join(shared.left_out)}{of}.")
    for shared in machines:
        for longer in range(1, len(shared.groups)):
            pair = shared.budgets[0], shared.budgets[longer]
            for label, short in shared.effects[0].items():
                long = shared.effects[longer][label]
                first = [label, *([shared.words] if machines[0].words else []), " to ".join(pair)]
                rows.append([*first, effect_text(short), effect_text(long), carries_over(short, long, report.resolve)])
                values.append([*(None for _ in first), short.difference, long.difference, None])
    columns = ["arm", *(["of"] if machines[0].words else []), "budgets"]
    columns += ["at the shorter, points [95 %]", "at the longer, points [95 %]", "effect"]
    sentences.append(f"Effects are against {machines[0].against}.")
    data = {"transfers": data, "baseline": machines[0].baseline, "against": machines[0].against}
    made = Table(columns, rows, values)
    return Section("transfer", "Transfer to a longer budget", sentences, data, made, lambda: _draw(report, machines))


def shared_arms(report: Report) -> list[SharedArms]:
    """Return the arms of each machine that has several budgets with at least FEWEST_ARMS arms in common."""
    by_machine: dict[str, list[Group]] = {}
    for group in report.groups:
        by_machine.setdefault(machine_words(group.machine), []).append(group)
    keys = differing([group.machine for group in report.groups])
    machines = []
    for groups in by_machine.values():
        groups = [group for group in groups if len(group.arms) >= FEWEST_ARMS]
        groups.sort(key=lambda group: group.train_seconds)
        if len(groups) < 2:
            continue
        labels = [arm.label for arm in groups[0].arms if all(_has(group, arm.label) for group in groups)]
        if len(labels) < FEWEST_ARMS:
            continue
        left_out = [arm.label for group in groups for arm in group.arms if arm.label not in labels]
        groups = [
            dataclasses.replace(group, arms=[arm for label in labels for arm in group.arms if arm.label == label])
            for group in groups
        ]
        baseline = report.baseline_of(groups[0]).label
        machines.append(
            SharedArms(
                groups,
                baseline,
                RUNG_BEFORE if _has_rungs(report) else baseline,
                [_effects(report, group, baseline) for group in groups],
                list(dict.fromkeys(left_out)),
                machine_words(groups[0].machine, keys) if keys else "",
            )
        )
    return machines


def _has_rungs(report: Report) -> bool:
    """Return whether each arm is compared with the one before it: in a cumulative study, unless told otherwise."""
    return report.study.get("kind") == "cumulative" and report.baseline is None


def _effects(report: Report, group: Group, baseline: str) -> dict[str, Effect]:
    if not _has_rungs(report):
        return effects_of(group, group.baseline(baseline))
    names = report.study["arms"]
    labels = [arm.label for arm in group.arms]
    before = dict(zip(list(names)[1:], names, strict=False))
    effects = effects_of_rungs(names, group)
    return {label: effect for label, effect in effects.items() if before[label] in labels}


def _has(group: Group, label: str) -> bool:
    return any(arm.label == label for arm in group.arms)


def _percents(group: Group) -> dict[str, list[float]]:
    return {arm.label: arm.percents for arm in group.arms}


def _rank_lines(shared: SharedArms, longer: int, ranks: RankTransfer) -> list[str]:
    """Return how well the ranks agree, the pairs that change order, and the regret."""
    short, long = shared.budgets[0], shared.budgets[longer]
    pair = f"{short} to {long}"
    if ranks.all is None:
        lines = [f"{pair}: no ranking, all arms are equal at a budget"]
    else:
        lines = [f"{pair}, all {len(ranks.all.arms)} arms: {_agreement(ranks.all, short, long)}"]
    if ranks.top is not None:
        lines.append(f"{pair}, the {len(ranks.top.arms)} best at {long}: {_agreement(ranks.top, short, long)}")
    flips = ", ".join(f"{a} and {b}" for a, b in ranks.flips)
    lines.append(f"{pair}, pairs whose order is resolved at both and opposite: {flips or 'none'}")
    if ranks.winner_short == ranks.winner_long:
        best = f"{ranks.winner_short} is best at both"
    else:
        best = f"{ranks.winner_short} is best at {short}, {ranks.winner_long} at {long}"
    regret = f"{ranks.regret:.2f}{_bounds(ranks.regret_low, ranks.regret_high)}"
    return [*lines, f"{pair}: {best}; trusting {short} costs {regret} points at {long}"]


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None else f" [{low:.2f}, {high:.2f}]"


def _arm_lines(shared: SharedArms, resolve: float) -> list[str]:
    """Return a sentence for each arm: does the effect at the shortest budget carry over to the longest?"""
    short, long = shared.effects[0], shared.effects[-1]
    ends = shared.budgets[0], shared.budgets[-1]
    return [transfer_sentence(label, short[label], long[label], ends, resolve).removesuffix(".") for label in short]


def _agreement(found: Agreement, short: str, long: str) -> str:
    text = f"Kendall's tau {found.tau:.2f}{_bounds(found.low, found.high)}"
    ceilings = {short: found.ceiling_short, long: found.ceiling_long}
    parts = [f"{value:.2f} at {budget}" for budget, value in ceilings.items() if value is not None]
    return f"{text}; two halves of the seeds agree to {' and '.join(parts)}" if parts else text


def _data(shared: SharedArms, longer: int, ranks: RankTransfer, resolve: float) -> dict[str, Any]:
    short, long = shared.effects[0], shared.effects[longer]
    return {
        "short": shared.budgets[0],
        "long": shared.budgets[longer],
        "machine": shared.groups[0].machine,
        "baseline": shared.baseline,
        "against": shared.against,
        "ranks": dataclasses.asdict(ranks),
        "arms": [
            {
                "arm": label,
                "short": effect_data(short[label]),
                "long": effect_data(long[label]),
                "transfer": carries_over(short[label], long[label], resolve),
            }
            for label in short
        ],
    }


def _draw(report: Report, machines: list[SharedArms]) -> Figure:
    from minuteloop.report.plots.transfer import plot_transfer

    title = report.study.get("question") or "Does a short budget rank the arms as a longer one does?"
    return plot_transfer(machines, title, report.resolve)
