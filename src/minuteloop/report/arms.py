"""Arms: runs that differ in nothing but their seed, of one budget, on machines that are alike."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import Any

from minuteloop.records.machine import differing, machine_of, machine_words
from minuteloop.report.runs import Run, differing_keys, is_of_an_arm
from minuteloop.schema import parse_budget
from minuteloop.study.design import arm_of, key_of
from minuteloop.validation import ConfigError, did_you_mean

METRICS = ("val/acc", "test/acc")  # in the order of preference: the test set chooses only as a last resort
FAR = 1.25  # a rate this much higher or lower than the one that its plan was made with is reported


@dataclass(frozen=True)
class Arm:
    """The finished runs of one arm; `label` is what their overrides have in common and those of others do not."""

    label: str
    budget: str
    machine: dict[str, Any]
    runs: list[Run]
    metric: str

    @property
    def percents(self) -> list[float]:
        """The accuracy of each run, in percent."""
        return [100 * run.record["metrics"][self.metric] for run in self.runs]

    @property
    def mean(self) -> float:
        """The mean accuracy, in percent."""
        return statistics.mean(self.percents)

    def values(self, part: str, key: str) -> list[Any]:
        """Return record[part][key] of each run."""
        return [run.record[part][key] for run in self.runs]

    def doubts(self) -> list[str]:
        """Return what makes the arm's seconds doubtful: a rate measured on a busy machine, or far from the real one."""
        busy = {run.record["rate"]["busy"] for run in self.runs if run.record.get("rate", {}).get("busy")}
        lines = [f"its rate was measured on a busy machine ({words})" for words in sorted(busy)]
        for run in self.runs:
            asked, seconds = run.record["plan"].get("seconds_asked"), run.record["seconds"]["train"]
            if asked and not asked / FAR <= seconds <= asked * FAR:
                lines.append(f"seed={run.seed} trained {asked / seconds:.1f} times as fast as the rate measured")
        return [f"{self.label}: {line}; rerun=true measures it again" for line in lines]


@dataclass(frozen=True)
class Group:
    """Arms that may be compared: of one machine and one budget. `words` say which, where a report has several."""

    machine: dict[str, Any]
    budget: str
    words: str
    arms: list[Arm]

    @property
    def train_seconds(self) -> float:
        """The mean training seconds of a run."""
        return statistics.mean(seconds for arm in self.arms for seconds in arm.values("seconds", "train"))

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds; None where it is in steps or epochs."""
        amount, unit = parse_budget(self.budget)
        return amount if unit == "s" else None

    def baseline(self, label: str | None) -> Arm:
        """Return the arm that others are compared with: the one of that label, or the first. Raises ConfigError."""
        if label is None:
            return self.arms[0]
        for arm in self.arms:
            if arm.label == label:
                return arm
        labels = [arm.label for arm in self.arms]
        raise ConfigError(f"--baseline {label}: no arm of this name{did_you_mean(label, labels)}")


def accuracy_metric(runs: list[Run], asked: str | None = None) -> str:
    """Return the metric that all runs have: `asked`, else the first of METRICS. Raises ConfigError."""
    for metric in [asked] if asked else METRICS:
        if all(run.record["metrics"].get(metric) is not None for run in runs):
            return metric
    if asked:
        missing = sum(run.record["metrics"].get(asked) is None for run in runs)
        raise ConfigError(f"--metric {asked}: {missing} of {len(runs)} runs have none")
    raise ConfigError("the runs have neither val/acc nor test/acc in common; choose some with --where data.holdout=...")


def groups_of(
    runs: list[Run], metric: str, names: dict[str, list[str]] | None = None, by: list[str] | None = None
) -> list[Group]:
    """Return runs as groups of arms, in the order of the arms' first runs; of equal configs and seeds the newest.

    `names` are the arms of a study, {name: overrides}: the labels, and the order. With `by`, keys of the config, runs
    that are equal in them are one arm, whatever else they differ in. Raises ConfigError for an unknown key.
    """
    runs = _newest(runs)
    if by:
        arms = list(_by_keys(runs, by).items())
    else:
        order = list(names or {})
        by_config: dict[str, list[Run]] = {}
        for run in runs:
            by_config.setdefault(_config_text(run), []).append(run)
        labels = _labels([members[0] for members in by_config.values()], names or {})
        arms = sorted(
            zip(labels, by_config.values(), strict=True),
            key=lambda arm: order.index(arm[0]) if arm[0] in order else len(order),
        )
    return _groups(arms, metric)


def _groups(arms: list[tuple[str, list[Run]]], metric: str) -> list[Group]:
    """Return arms parted by machine and budget."""
    runs = [run for _, members in arms for run in members]
    machines = differing([machine_of(run.record) for run in runs])
    several_budgets = len({run.budget for run in runs}) > 1
    groups: dict[tuple[str, str], Group] = {}
    for label, members in arms:
        parts: dict[tuple[str, str], list[Run]] = {}
        for run in sorted(members, key=lambda run: run.seed):
            parts.setdefault((machine_words(machine_of(run.record)), run.budget), []).append(run)
        for (machine_key, budget), parted in parts.items():
            machine = machine_of(parted[0].record)
            words = [budget] if several_budgets else []
            words += [machine_words(machine, machines)] if machines else []
            group = groups.setdefault((machine_key, budget), Group(machine, budget, ", ".join(words), []))
            group.arms.append(Arm(label, budget, machine, parted, metric))
    return list(groups.values())


def _newest(runs: list[Run]) -> list[Run]:
    """Return runs without those that a newer one of equal config, budget, seed and machine repeats."""
    newest: dict[tuple, Run] = {}
    for run in sorted(runs, key=lambda run: run.record["date"]):
        newest[_config_text(run), run.budget, run.seed, machine_words(machine_of(run.record))] = run
    kept = {id(run) for run in newest.values()}
    return [run for run in runs if id(run) in kept]


def _config_text(run: Run) -> str:
    return json.dumps(run.arm_config, sort_keys=True)


def _by_keys(runs: list[Run], keys: list[str]) -> dict[str, list[Run]]:
    """Return runs by the values of config keys, {'size.name=tiny': runs}. Raises ConfigError for an unknown key."""
    known = {key for run in runs for key in run.asked}
    for key in keys:
        if key not in known:
            raise ConfigError(f"--by {key}: no run has this key{did_you_mean(key, known)}")
    arms: dict[str, list[Run]] = {}
    for run in runs:
        label = " ".join(f"{key}={_short(run.asked.get(key))}" for key in keys)
        arms.setdefault(label, []).append(run)
    return arms


def _labels(runs: list[Run], names: dict[str, list[str]]) -> list[str]:
    """Return a label for each run, of different configs: its arm's name in a study, or its overrides, or its family.

    Where two have the same words, the keys that differ are added.
    """
    shared = shared_overrides(runs)
    labels = [arm_of(names, run.overrides) or _text(run, shared) for run in runs]
    for label in set(labels):
        members = [index for index, other in enumerate(labels) if other == label]
        configs = [runs[index].arm_config for index in members]
        keys = differing_keys(configs)
        for index, config in zip(members, configs, strict=True):
            if keys:
                values = ", ".join(f"{key}={_short(config.get(key))}" for key in keys[:3])
                labels[index] = f"{label} ({values}{', ...' if len(keys) > 3 else ''})"
    return labels


def _text(run: Run, shared: list[str]) -> str:
    if not run.overrides:
        return run.family
    own = [word for word in run.overrides if word not in shared and is_of_an_arm(key_of(word))]
    return " ".join(own) or run.record["config"]["name"]


def shared_overrides(runs: list[Run]) -> list[str]:
    """Return the overrides that at least two runs have in common, of those that may make an arm."""
    if len(runs) < 2:
        return []
    common = set.intersection(*(set(run.overrides) for run in runs))
    return [word for word in runs[0].overrides if word in common and is_of_an_arm(key_of(word))]


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, list | dict | bool) or value is None else str(value)
    return text if len(text) <= 30 else f"{text[:27]}..."


def pooled_std(arms: list[Arm]) -> float | None:
    """Return the std of runs within their arms, in points; None without two runs of an arm."""
    several = [arm.percents for arm in arms if len(arm.runs) > 1]
    degrees = sum(len(values) - 1 for values in several)
    squares = sum((len(values) - 1) * statistics.variance(values) for values in several)
    return (squares / degrees) ** 0.5 if degrees else None
