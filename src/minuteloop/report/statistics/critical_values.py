"""Distributions of the largest of several t statistics, integrated on a fixed grid.

They are those of scipy.stats.dunnett and scipy.stats.tukey_hsd. scipy's Dunnett integrates with random numbers, so that
intervals differ between readers; its Games-Howell intervals of 12 arms take most of a minute; and neither can be asked
what a study yet to be run would resolve. Imports scipy.special only: scipy.stats takes seconds to import.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

NORMALS = np.linspace(-6, 6, 65)  # abscissae of a standard normal variable
NORMAL_WEIGHTS = np.exp(-(NORMALS**2) / 2) / np.exp(-(NORMALS**2) / 2).sum()
SPREADS = 33  # abscissae of a spread, at least
LONGEST_STEP = 0.5  # of the logarithm of a squared spread
OUTSIDE = 1e-8  # probability left out on each side of a spread's distribution
POSITIVE = NORMALS[NORMALS >= 0]  # for integrands that are even
POSITIVE_WEIGHTS = np.where(POSITIVE > 0, 2, 1) * NORMAL_WEIGHTS[NORMALS >= 0]
MAX_CORRELATION = 0.99  # of two t statistics; above, the grid of NORMALS is too coarse (a lower one is conservative)


@lru_cache(maxsize=1024)
def spread_grid(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Return abscissae and weights of an estimated std of `df` degrees of freedom, divided by the true std.

    chi-square / df on a grid that is uniform in its logarithm, on which the trapezoid rule converges exponentially.
    """
    low, high = np.log(special.chdtri(df, [1 - OUTSIDE, OUTSIDE]))
    logs = np.linspace(low, high, max(SPREADS, math.ceil((high - low) / LONGEST_STEP)))
    exponents = logs * df / 2 - np.exp(logs) / 2
    weights = np.exp(exponents - exponents.max())
    return np.exp(logs / 2) / np.sqrt(df), weights / weights.sum()


@dataclass(frozen=True)
class ManyToOne:
    """Comparisons of arms with one baseline: Dunnett, JASA 50 (1955) 1096.

    `correlations` holds v0 / (v0 + v_i) for each arm, with v the variance of a mean: n_i / (n_i + n_0) where the spread
    is pooled. The statistics of two arms are correlated by the root of the product of theirs. With unequal spreads:
    Hasler & Hothorn, Biometrical Journal 50 (2008) 793.
    """

    correlations: tuple[float, ...]

    @property
    def comparisons(self) -> int:
        return len(self.correlations)

    def tail(self, t: float, df: float) -> float:
        """Return P(max |T_i| > t)."""
        spreads, weights = spread_grid(df)
        bounds, inside = (t * spreads)[:, None], 1.0
        for correlation, count in Counter(self.correlations).items():
            correlation = min(correlation, MAX_CORRELATION)
            shared, own = correlation**0.5 * POSITIVE, (1 - correlation) ** 0.5
            inside *= (special.ndtr((shared + bounds) / own) - special.ndtr((shared - bounds) / own)) ** count
        return _probability(1 - weights @ inside @ POSITIVE_WEIGHTS)


@dataclass(frozen=True)
class AllPairs:
    """Comparisons of every pair of `arms` arms: Tukey's studentized range, which is max |T_ij| * sqrt(2)."""

    arms: int

    @property
    def comparisons(self) -> int:
        return self.arms * (self.arms - 1) // 2

    def tail(self, t: float, df: float) -> float:
        """Return P(max |T_ij| > t)."""
        spreads, weights = spread_grid(df)
        widths = np.sqrt(2) * t * spreads[:, None]
        inside = (special.ndtr(NORMALS) - special.ndtr(NORMALS - widths)) ** (self.arms - 1)
        return _probability(1 - self.arms * (weights @ inside @ NORMAL_WEIGHTS))


@dataclass(frozen=True)
class Neighbours:
    """Comparisons of each of `arms` arms with the one before it, by Bonferroni's bound, which any correlation keeps."""

    arms: int

    @property
    def comparisons(self) -> int:
        return self.arms - 1

    def tail(self, t: float, df: float) -> float:
        """Return an upper bound of P(max |T_i| > t)."""
        return _probability(2 * self.comparisons * special.stdtr(df, -t))


Family = ManyToOne | AllPairs | Neighbours


def _probability(value: float) -> float:
    return min(max(float(value), 0.0), 1.0)


@lru_cache(maxsize=4096)
def critical_value(family: Family, df: float, level: float = 0.95) -> float:
    """Return the t that the largest |t| statistic of a family exceeds with probability 1 - `level`.

    It is between Student's t of one comparison and Bonferroni's.
    """
    low, high = (-float(special.stdtrit(df, (1 - level) / 2 / count)) for count in (1, family.comparisons))
    return root(lambda t: np.log(max(family.tail(t, df), 1e-9) / (1 - level)), low * 0.999, high * 1.001)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a monotone function crosses zero between `low` and `high`, to 1e-7 (Illinois method)."""
    at_low, at_high = function(low), function(high)
    if at_low * at_high > 0:
        raise ValueError(f"no sign change between {low} and {high}")
    side = 0
    for _ in range(100):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        value = function(middle)
        if abs(value) < 1e-7:
            break
        if value * at_high > 0:
            high, at_high = middle, value
            at_low, side = (at_low / 2 if side == 1 else at_low), 1
        else:
            low, at_low = middle, value
            at_high, side = (at_high / 2 if side == -1 else at_high), -1
    return float(middle)
