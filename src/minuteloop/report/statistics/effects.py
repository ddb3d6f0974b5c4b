"""Differences between arms, with simultaneous intervals. Values are accuracies in points (percent), one per seed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from minuteloop.report.statistics.critical_values import AllPairs, Family, ManyToOne, Neighbours, critical_value
from minuteloop.validation import ConfigError, did_you_mean

Arms = dict[str, list[float]]

STEP = (
    0.01  # points: what one of 10,000 images is worth; no spread is below the rounding error of this, STEP / sqrt(12)
)
DIFFERENT_SPREADS = 0.1  # level of Bartlett's test, from which on spreads are not pooled

ONE_SEED = "one seed an arm has no interval"
EQUAL_SEEDS = "the seeds of every arm give equal values, so their spread is unknown"


@dataclass(frozen=True)
class Interval:
    """Mean of `n` values, with a confidence interval; None where one value has none."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Effect:
    """Mean of an arm minus that of another, in points, with a simultaneous 95 % interval and an adjusted p value.

    `low`, `high` and `p` are None where there is no spread to judge by; `method` then gives the reason. `std` of one
    run has `df` degrees of freedom, of which one more seed in every arm adds `df_per_seed`; None without a spread.
    `family` is what the interval is simultaneous over.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    n_baseline: int
    method: str
    std: float | None = None
    df: float | None = None
    df_per_seed: float | None = None
    family: Family | None = None


def interval(values: list[float], level: float = 0.95) -> Interval:
    """Return the mean of values with Student's t interval of their own spread."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, None, None, n)
    half = -special.stdtrit(n - 1, (1 - level) / 2) * float(np.std(values, ddof=1)) / np.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def against_baseline(arms: Arms, baseline: str) -> dict[str, Effect]:
    """Return {arm: its mean minus the baseline's}, with intervals that hold for all arms together.

    Dunnett's comparison, with a spread pooled over all arms, so that arms with few seeds, even one, borrow from the
    others; with one arm it is the pooled t test. Where the spreads differ (`spreads_differ`) each comparison has the
    spreads of its own two arms and Welch's degrees of freedom (Hasler & Hothorn 2008).

    Raises:
        ConfigError: `baseline` is not an arm.
    """
    if baseline not in arms:
        raise ConfigError(f"baseline={baseline}: must be an arm{did_you_mean(baseline, arms)}")
    others = [name for name in arms if name != baseline]
    effects = _effects(arms, [(name, baseline) for name in others], ManyToOne)
    return dict(zip(others, effects, strict=True))


def all_pairs(arms: Arms) -> dict[tuple[str, str], Effect]:
    """Return {(a, b): mean of a minus mean of b} for every pair, a before b, with intervals that hold for all together.

    Tukey-Kramer with a pooled spread; Games-Howell where the spreads differ (`spreads_differ`).
    """
    pairs = list(itertools.combinations(arms, 2))
    return dict(zip(pairs, _effects(arms, pairs, AllPairs), strict=True))


def neighbours(arms: Arms) -> dict[str, Effect]:
    """Return {arm: its mean minus that of the arm before it}, with intervals that hold for all these together.

    Bonferroni's, with a spread pooled over all arms, or each pair's own where the spreads differ (`spreads_differ`).
    """
    pairs = [(name, before) for before, name in itertools.pairwise(arms)]
    return dict(zip([name for name, _ in pairs], _effects(arms, pairs, Neighbours), strict=True))


def spreads_differ(values: list[list[float]]) -> float | None:
    """Return the p value of Bartlett's test where it is below DIFFERENT_SPREADS, else None.

    Arms of one seed do not count. A pooled spread is worth a lot at three seeds, so that it is kept unless the data
    speak against it. Three seeds cannot say much: with one std three times the others the test sees it in 40 % of
    studies of 6 arms and 3 seeds (70 % at 5), and the rate of studies with any false positive is then 0.11, or 0.15
    where it is the baseline's (0.08 and 0.10 at 5 seeds), for a nominal 0.05. Bartlett, Proc. R. Soc. A 160 (1937) 268.
    """
    values = [arm for arm in values if len(arm) > 1]
    if len(values) < 2:
        return None
    df = np.array([len(arm) - 1 for arm in values])
    variances = np.array([_variance(arm) for arm in values])
    pooled = df @ variances / df.sum()
    correction = 1 + ((1 / df).sum() - 1 / df.sum()) / (3 * (len(values) - 1))
    statistic = (df.sum() * np.log(pooled) - df @ np.log(variances)) / correction
    p = float(special.chdtrc(len(values) - 1, max(statistic, 0)))
    return p if p < DIFFERENT_SPREADS else None


def _variance(values: list[float]) -> float:
    return max(float(np.var(values, ddof=1)), STEP**2 / 12)


class _Error(NamedTuple):
    """Standard error of one difference, the std of one run behind it, and the comparisons that it is one of."""

    value: float
    std: float
    df: float
    df_per_seed: float
    family: Family
    method: str


def _effects(arms: Arms, pairs: list[tuple[str, str]], kind: type[Family]) -> list[Effect]:
    for name, values in arms.items():
        if not values or not np.isfinite(values).all():
            raise ValueError(f"arm {name}: must have a finite value for each seed, got {values}")
    repeated = {name: values for name, values in arms.items() if len(values) > 1}
    if not any(np.ptp(values) for values in repeated.values()):
        return [_effect(arms, pair, EQUAL_SEEDS if repeated else ONE_SEED) for pair in pairs]
    variances = {name: _variance(values) for name, values in repeated.items()}
    p = spreads_differ(list(arms.values()))
    if p is None:
        return [_effect(arms, pair, _pooled(arms, pair, kind, variances)) for pair in pairs]
    words = f"spreads differ between arms (Bartlett's test, p = {p:.2g})"
    return [
        _effect(arms, pair, _own_spreads(repeated, pair, kind, variances, words))
        if repeated.keys() >= set(pair)
        else _effect(arms, pair, f"{words}, and one seed has none")
        for pair in pairs
    ]


def _effect(arms: Arms, pair: tuple[str, str], error: _Error | str) -> Effect:
    """Return the effect of the first arm of a pair against the second; `error` may be the reason that there is none."""
    difference = float(np.mean(arms[pair[0]]) - np.mean(arms[pair[1]]))
    n, n_baseline = (len(arms[name]) for name in pair)
    if isinstance(error, str):
        return Effect(difference, None, None, None, n, n_baseline, error)
    value, std, df, df_per_seed, family, method = error
    half = critical_value(family, df) * value
    p = family.tail(abs(difference) / value, df)
    low, high = difference - half, difference + half
    return Effect(difference, low, high, p, n, n_baseline, method, std, df, df_per_seed, family)


def _pooled(arms: Arms, pair: tuple[str, str], kind: type[Family], variances: dict[str, float]) -> _Error:
    n, n_baseline = (len(arms[name]) for name in pair)
    df = sum(len(arms[name]) - 1 for name in variances)
    std = (sum((len(arms[name]) - 1) * variance for name, variance in variances.items()) / df) ** 0.5
    if kind is ManyToOne:
        sizes = [len(values) for name, values in arms.items() if name != pair[1]]
        family = ManyToOne(tuple(size / (size + n_baseline) for size in sizes))
    else:
        family = kind(len(arms))
    test = {ManyToOne: "Dunnett", AllPairs: "Tukey", Neighbours: "t tests with Bonferroni's correction"}[kind]
    method = f"{test if len(arms) > 2 else 't test'}, spread pooled over {len(arms)} arms"
    return _Error(std * (1 / n + 1 / n_baseline) ** 0.5, std, df, len(arms), family, method)


def _own_spreads(
    arms: Arms, pair: tuple[str, str], kind: type[Family], variances: dict[str, float], words: str
) -> _Error:
    means = {name: variance / len(arms[name]) for name, variance in variances.items()}  # variances of means
    (v, v_baseline), (u, u_baseline) = ([of[name] for name in pair] for of in (variances, means))
    n, n_baseline = (len(arms[name]) for name in pair)
    df = (u + u_baseline) ** 2 / (u**2 / (n - 1) + u_baseline**2 / (n_baseline - 1))
    df_per_seed = (v + v_baseline) ** 2 / (v**2 + v_baseline**2)
    if kind is ManyToOne:
        correlations = (u_baseline / (u_baseline + means[name]) for name in arms if name != pair[1])
        family = ManyToOne(tuple(correlations))
    else:
        family = kind(len(arms))
    test = {
        ManyToOne: "Dunnett with each arm's own spread",
        AllPairs: "Games-Howell",
        Neighbours: "Welch with Bonferroni's correction",
    }[kind]
    method = f"{test if len(arms) > 2 else 'Welch'}: {words}"
    return _Error((u + u_baseline) ** 0.5, ((v + v_baseline) / 2) ** 0.5, df, df_per_seed, family, method)
