"""The space of a search, in Hydra's own words for sweeps: what Optuna draws from, and overrides of a point."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep, Sweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from minuteloop.validation import ConfigError, spell

WORDS = "interval(0.01, 1), tag(log, interval(1e-4, 1e-1)), int(interval(1, 8)), range(1, 9, 2), choice(3, 5) or 3,5"

DIGITS = 4  # of real numbers: more change no result, and make no name
NOT_SEARCHED = {  # keys -> why a search does not vary them
    "seed": "each point trains with one seed, and --confirm trains the best with more",
    "tune": "a search is not searched over",
    "hydra": "a search is not searched over",
    "study": "a search is no study",
}


@dataclass(frozen=True)
class Space:
    """What a search varies: {parameter: distribution}, and the keys that are lists of parameters.

    A key with one value is a parameter of its name; of a list such as [choice(3,5),choice(3,5)] each sweep is one,
    `key.0` and `key.1`. `templates` are {key: value or list, with a `Parameter` in the place of each sweep}.
    """

    distributions: dict[str, BaseDistribution]
    templates: dict[str, Any]

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Return a point that Optuna chooses, {parameter: value}."""
        return {name: _suggest(trial, name, distribution) for name, distribution in self.distributions.items()}

    def overrides(self, point: dict[str, Any]) -> list[str]:
        """Return the overrides of a point."""
        return [f"{key}={_text(template, point)}" for key, template in self.templates.items()]

    def lines(self) -> list[str]:
        """Return each parameter with its values, in words."""
        return [f"{name}: {_words(distribution)}" for name, distribution in self.distributions.items()]

    def corners(self) -> Iterator[dict[str, Any]]:
        """Yield points that between them have every choice and both ends of every interval, one at a time."""
        first = {name: ends(distribution)[0] for name, distribution in self.distributions.items()}
        yield first
        for name, distribution in self.distributions.items():
            for value in ends(distribution)[1:]:
                yield first | {name: value}

    def grid(self) -> dict[str, list[Any]]:
        """Return every value of every parameter. Raises ConfigError for an interval of real numbers."""
        return {name: _values(name, distribution) for name, distribution in self.distributions.items()}


@dataclass(frozen=True)
class Parameter:
    """The place of a parameter in the value of a key."""

    name: str


def is_searched(override: Override) -> bool:
    """Return whether an override gives several values, or a list with several for an entry."""
    return override.is_sweep_override() or any(isinstance(leaf, Sweep) for leaf in _leaves(override.value()))


def space_of(overrides: Iterable[Override]) -> Space:
    """Return the space that overrides with several values make; of one key the last. Raises ConfigError."""
    distributions: dict[str, BaseDistribution] = {}
    templates: dict[str, Any] = {}
    for override in overrides:
        key, value = override.key_or_group, override.value()
        if override.is_add() or override.is_delete() or override.package is not None:
            raise ConfigError(f"{override.input_line}: must set a key that exists; only values are searched")
        if (owner := key.replace("/", ".").partition(".")[0]) in NOT_SEARCHED:
            raise ConfigError(f"{override.input_line}: must be one value; {NOT_SEARCHED[owner]}")
        templates[key] = _template(key, value, distributions, override.input_line)
    return Space(distributions, templates)


def parse(overrides: Iterable[str]) -> list[Override]:
    """Return parsed overrides."""
    return OverridesParser.create().parse_overrides(list(overrides))


def ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return the choices of a categorical distribution, the ends of another."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return (distribution.low, distribution.high) if distribution.high > distribution.low else (distribution.low,)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for entry in value:
            yield from _leaves(entry)
    else:
        yield value


def _template(name: str, value: Any, distributions: dict[str, BaseDistribution], line: str) -> Any:
    """Return a key's value with a Parameter for each sweep in it, whose distribution is added to `distributions`."""
    if isinstance(value, list):
        return [_template(f"{name}.{index}", entry, distributions, line) for index, entry in enumerate(value)]
    if not isinstance(value, Sweep | Glob):
        return value
    distributions[name] = _distribution(value, line)
    return Parameter(name)


def _distribution(sweep: Sweep, line: str) -> BaseDistribution:
    is_log = "log" in getattr(sweep, "tags", ())
    if isinstance(sweep, ChoiceSweep):
        return CategoricalDistribution([_plain(value) for value in sweep.list])
    if isinstance(sweep, IntervalSweep) and _is_rising(sweep.start, sweep.end, is_log):
        kind = IntDistribution if isinstance(sweep.start, int) and isinstance(sweep.end, int) else FloatDistribution
        return kind(sweep.start, sweep.end, log=is_log)
    if isinstance(sweep, RangeSweep) and not is_log and sweep.stop is not None and sweep.step > 0:
        count = math.ceil((sweep.stop - sweep.start) / sweep.step)
        last = sweep.start + (count - 1) * sweep.step  # as in Hydra and Python, without the end
        if count > 0:
            kind = IntDistribution if isinstance(last, int) else FloatDistribution
            return kind(sweep.start, last, step=sweep.step)
    glob = " (Hydra's glob lists files, not values)" if isinstance(sweep, Glob) else ""
    raise ConfigError(f"{line}: must be values to search such as {WORDS}{glob}")


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    suggest = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return suggest(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def _is_rising(start: float, end: float, is_log: bool) -> bool:
    return start <= end and not (is_log and start <= 0)


def _plain(value: Any) -> Any:
    """Return a choice as Optuna stores it: numbers, truth values and null as they are, anything else as its text."""
    return value if value is None or isinstance(value, bool | int | float) else _text(value, {})


def _text(value: Any, point: dict[str, Any]) -> str:
    """Return a value in Hydra's words, with the parameters of a point."""
    if isinstance(value, Parameter):
        chosen = point[value.name]
        return f"{chosen:.{DIGITS}g}" if isinstance(chosen, float) else spell(chosen)
    if isinstance(value, list):
        return f"[{','.join(_text(entry, point) for entry in value)}]"
    return Override._get_value_element_as_str(value)


def _words(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(spell, distribution.choices))
    step = "" if distribution.step is None else f" in steps of {distribution.step:g}"
    return f"{distribution.low:g} to {distribution.high:g}{step}{', logarithmic' if distribution.log else ''}"


def _values(name: str, distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if distribution.step is None or distribution.log:
        raise ConfigError(f"tune.sampler=grid: {name} has no list of values; use choice(...) or range(...)")
    count = round((distribution.high - distribution.low) / distribution.step)
    return [distribution.low + index * distribution.step for index in range(count + 1)]
