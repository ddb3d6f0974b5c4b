"""A study as data: its question, arms, seeds and budgets, and the cells that answer it. Imports no torch and no Hydra.

An arm is a list of overrides, as they would be typed. They are written in the file of the study, or generated from a
list of modernization steps or ingredients.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minuteloop.schema import StudyConfig, parse_budget
from minuteloop.validation import ConfigError, check, did_you_mean, spell

FILE = "study.json"  # in the sweep's folder
GENERATORS = ("arms", "each", "cumulative", "add_one", "drop_one")
ELSEWHERE = {  # keys that no arm sets -> where they belong
    "seed": "study.seeds",
    "budget": "study.budgets",
    "hydra": "the file of the study",
    "study": "the file of the study",
}


@dataclass(frozen=True)
class Study:
    """What a sweep asks. `kind` is arms, cumulative, add_one or drop_one; `key` is the list that arms are made of."""

    name: str
    question: str
    baseline: str
    arms: dict[str, list[str]]
    kind: str
    key: str | None
    seeds: list[int]
    budgets: list[str]

    def cells(self, typed: Iterable[list[str]]) -> list[list[str]]:
        """Return the overrides of each cell, for every combination `typed` of other overrides.

        Seeds vary slowest and arms fastest, so that a drift of the machine meets all arms alike.
        """
        grid = itertools.product(self.seeds, self.budgets, list(typed), self.arms.values())
        return [[*arm, *more, f"budget={budget}", f"seed={seed}"] for seed, budget, more, arm in grid]

    def arm_of(self, overrides: Iterable[str]) -> str | None:
        """Return the arm of a cell or record, of whose overrides it has the most; None where it is of no arm."""
        return arm_of(self.arms, overrides)

    def named(self, overrides: list[str]) -> list[str]:
        """Return the overrides of a cell with the name of its arm in place of the arm's own."""
        name = self.arm_of(overrides)
        return [name, *(word for word in overrides if word not in self.arms[name])] if name else overrides

    def save(self, sweep: Path) -> None:
        """Write the study into the sweep's folder, atomically."""
        temporary = sweep / f"{FILE}.tmp"
        temporary.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        temporary.replace(sweep / FILE)


def arm_of(arms: dict[str, list[str]], overrides: Iterable[str]) -> str | None:
    """Return the one of `arms`, {name: overrides}, whose overrides a run has: the longest; None where there is none."""
    present = set(overrides)
    fitting = [name for name, own in arms.items() if present.issuperset(own)]
    return max(fitting, key=lambda name: len(arms[name]), default=None)


def read_study(sweep: Path) -> Study | None:
    """Return the study of a sweep's folder, or None for a sweep without one."""
    path = sweep / FILE
    return Study(**json.loads(path.read_text())) if path.exists() else None


def make_study(settings: StudyConfig, name: str) -> Study:
    """Return the study called `name` that `settings` describe.

    Raises:
        ConfigError: for settings that do not describe one.
    """
    check(settings, "study.")
    given = [generator for generator in GENERATORS if getattr(settings, generator) is not None]
    if len(given) != 1:
        which = f"study.{given[1]}: {given[0]} is set too" if given else "study: has no arms"
        raise ConfigError(f"{which}; must set one of {', '.join(GENERATORS)}")
    (kind,) = given
    arms = settings.arms if kind == "arms" else _generate(kind, *next(iter(getattr(settings, kind).items())))
    _check_arms(arms, f"study.{kind}")
    baseline = next(iter(arms)) if settings.baseline is None else settings.baseline
    if baseline not in arms:
        raise ConfigError(f"study.baseline={baseline}: must be the name of an arm{did_you_mean(baseline, arms)}")
    for name in settings.only:
        if name not in arms:
            raise ConfigError(f"study.only={name}: must be the name of an arm{did_you_mean(name, arms)}")
    if settings.only:
        arms = {name: arm for name, arm in arms.items() if name in (baseline, *settings.only)}
    is_named = kind in ("arms", "each")
    return Study(
        name=name,
        question=settings.question,
        baseline=baseline,
        arms=arms,
        kind="arms" if is_named else kind,
        key=None if is_named else next(iter(getattr(settings, kind))),
        seeds=settings.seeds if isinstance(settings.seeds, list) else list(range(settings.seeds)),
        budgets=settings.budgets,
    )


def _generate(kind: str, key: str, values: list) -> dict[str, list[str]]:
    """Return the arms of a list of names, or for `each` of values of a key."""
    if kind == "each":
        return {spell(value): [f"{key}={spell(value)}"] for value in values}
    if kind == "drop_one":
        names = {"all": values} | {f"-{value}": [other for other in values if other != value] for value in values}
    elif kind == "cumulative":
        names = {"none": []} | {f"+{value}": values[: count + 1] for count, value in enumerate(values)}
    else:
        names = {"none": []} | {f"+{value}": [value] for value in values}
    return {name: [f"{key}=[{','.join(listed)}]"] for name, listed in names.items()}


def key_of(override: str) -> str:
    """Return the key that an override sets or removes."""
    return override.lstrip("+~").partition("=")[0]


def _check_arms(arms: dict, where: str) -> None:
    """Raise ConfigError for an arm that is no list of overrides, sets what no arm may, or equals another."""
    seen: dict[frozenset[str], str] = {}
    for name, arm in arms.items():
        if not name.strip() or not name.isprintable():
            raise ConfigError(f"{where}.{name!r}: the name of an arm must be text on one line")
        if not isinstance(arm, list) or not all(isinstance(override, str) for override in arm):
            raise ConfigError(f"{where}.{name}={arm}: must be a list of overrides, such as [size=nano, recipe.lr=0.1]")
        for override in arm:
            owner = key_of(override).replace("/", ".").partition(".")[0]
            if owner in ELSEWHERE:
                raise ConfigError(f"{where}.{name}=[{override}]: no arm may set {owner}; use {ELSEWHERE[owner]}")
        other = seen.setdefault(frozenset(arm), name)
        if other != name:
            raise ConfigError(f"{where}.{name}: has the overrides of arm {other}; remove one of them")


def plan_lines(study: Study, budgets: list[str], finished: int) -> list[str]:
    """Return what a study asks and what answering it costs; `budgets` are those of cells that have not `finished`."""
    lines = [f"study {study.name}: {study.question}".rstrip(": ")]
    lines.append(f"arms: {', '.join(study.arms)} (baseline: {study.baseline})")
    sizes = {"arms": len(study.arms), "seeds": len(study.seeds), "budgets": ", ".join(study.budgets)}
    counts = {"cells": len(budgets) + finished} | sizes | {"finished before": finished}
    lines.append("; ".join(f"{name}: {count}" for name, count in counts.items()))
    lengths = [parse_budget(budget) for budget in budgets]
    minutes = sum(amount for amount, unit in lengths if unit == "s") / 60
    unknown = sum(unit != "s" for _, unit in lengths)
    parts = [f"{minutes:,.0f} min of training"] if minutes else []
    if unknown:
        parts.append(f"the training of {unknown} cells, whose steps or epochs take a time not known in advance")
    if parts:
        parts[-1] += ", besides the start, calibration and evaluation of each cell (about 10 s on a CPU)"
        lines.append(f"to run: {' and '.join(parts)}")
    return lines
