"""How many seeds resolve a difference, what some seeds resolve, and how much a winner is flattered.

Power is that of one given arm: the probability that the interval of its difference from the baseline, which holds for
all arms together, excludes zero. All differences and stds are in points.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from minuteloop.report.statistics.critical_values import Family, ManyToOne, critical_value, root, spread_grid
from minuteloop.report.statistics.effects import Effect

POWER = 0.8


def seeds_needed(std: float, difference: float, arms: int = 1, power: float = POWER) -> int:
    """Return the seeds of each arm and the baseline that show a true `difference` with `power`, two-sided at 0.05.

    `std` of one run is known, equal in all arms, and estimated in the end from all of them; `arms` are compared with
    one baseline by Dunnett's test. One arm: Student's t of two samples. In studies simulated from seeds of
    real runs (scripts/simulate_verdicts.py) plans of 0.80 had a power of 0.72 to 0.76 at 3 seeds and 0.76 to 0.78 at 5:
    real runs have outliers, and arms that seem to differ in spread are judged with care.
    """
    _require_positive(std=std, difference=difference)
    return _fewest(lambda seeds: _planned_power(std, difference, arms, seeds) >= power, 2)


def resolvable(std: float, seeds: int, arms: int = 1, power: float = POWER) -> float:
    """Return the smallest true difference that `seeds` of each arm and the baseline show; as in `seeds_needed`."""
    _require_positive(std=std)
    if seeds < 2:
        raise ValueError(f"seeds={seeds}: must be an integer >= 2")
    high = std
    while _planned_power(std, high, arms, seeds) < power:
        high *= 2
    return root(lambda difference: _planned_power(std, difference, arms, seeds) - power, 0.0, high)


def more_seeds(effect: Effect, resolve: float) -> tuple[int, bool]:
    """Return the seeds to add to an arm and its baseline until a difference of `resolve` points is resolved.

    They show a true difference of `resolve` with power 0.8, averaged over what the true std may be given the estimated
    one and its degrees of freedom (Julious & Owen, Pharmaceutical Statistics 5 (2006) 29), by the same comparison with
    the same arms. Where the seeds at hand have that power already, the result is the number that brings the interval's
    half width down to half of `resolve`, so that it either excludes zero or is inside +-`resolve`; then the second
    value is True.
    """
    _require_positive(resolve=resolve)
    if _power_with(effect, resolve, 0) < POWER:
        return _fewest(lambda more: _power_with(effect, resolve, more) >= POWER, 1), False
    return _fewest(lambda more: _half_width_with(effect, more) <= resolve / 2, 1), True


def winners_inflation(std: float, arms: int, seeds: int = 1) -> float:
    """Return how far the best of `arms` equal arms is above their true mean, in expectation, by luck alone."""
    grid, step = np.linspace(-9, 9, 4001, retstep=True)
    distribution = special.ndtr(grid) ** arms  # of the largest; E = integral of (1 - F) above zero minus F below
    return float((np.heaviside(grid, 0.5) - distribution).sum() * step) * std / seeds**0.5


def _planned_power(std: float, difference: float, arms: int, seeds: int) -> float:
    df = (arms + 1) * (seeds - 1)
    noncentrality = difference / std / (2 / seeds) ** 0.5
    return _power(np.array([noncentrality]), critical_value(ManyToOne((0.5,) * arms), df), df)[0]


def _power_with(effect: Effect, difference: float, more: int) -> float:
    df = effect.df + effect.df_per_seed * more
    spreads, weights = spread_grid(effect.df)
    noncentrality = difference / _error(effect, more) * spreads  # the true std is the estimated one / spread
    return weights @ _power(noncentrality, critical_value(_balanced(effect.family), df), df)


def _power(noncentrality: np.ndarray, critical: float, df: float) -> np.ndarray:
    """Return P(T > critical) of noncentral t variables of `df` degrees of freedom."""
    spreads, weights = spread_grid(df)
    return special.ndtr(noncentrality[:, None] - critical * spreads) @ weights


def _balanced(family: Family) -> Family:
    """Return a family with equally precise arms, as they become with many more seeds; it has one critical value."""
    return ManyToOne((0.5,) * family.comparisons) if isinstance(family, ManyToOne) else family


def _half_width_with(effect: Effect, more: int) -> float:
    critical = critical_value(_balanced(effect.family), effect.df + effect.df_per_seed * more)
    return critical * _error(effect, more)


def _error(effect: Effect, more: int) -> float:
    return effect.std * (1 / (effect.n + more) + 1 / (effect.n_baseline + more)) ** 0.5


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: must be a number > 0")


def _fewest(is_enough, least: int) -> int:
    """Return the smallest integer from `least` on that is enough; it doubles, then bisects."""
    most = least
    while not is_enough(most):
        most *= 2
    fewest = most // 2  # not enough, or below `least`
    while most - fewest > 1 and most > least:
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if is_enough(middle) else (middle, most)
    return most
