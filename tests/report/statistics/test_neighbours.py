"""Each arm against the one before it: Bonferroni's correction of t tests."""

import numpy as np
import pytest
from scipy import stats

from minuteloop.report.statistics.effects import neighbours
from minuteloop.report.statistics.seeds import more_seeds

ARMS = {"a": [50.0, 50.2, 50.4], "b": [50.9, 51.0, 51.4], "c": [51.0, 51.3, 51.3]}


def test_two_arms_are_students_t_test():
    (effect,) = neighbours({name: ARMS[name] for name in "ab"}).values()
    found = stats.ttest_ind(ARMS["b"], ARMS["a"])
    assert effect.p == pytest.approx(found.pvalue, rel=1e-6)
    assert (effect.low, effect.high) == pytest.approx(tuple(found.confidence_interval()), rel=1e-6)


def test_more_arms_have_the_pooled_spread_and_bonferronis_level():
    effects = neighbours(ARMS)
    assert list(effects) == ["b", "c"]
    variance = np.mean([np.var(values, ddof=1) for values in ARMS.values()])
    error, df = np.sqrt(variance * 2 / 3), 6
    for effect, difference in zip(effects.values(), (0.9, 0.1), strict=True):
        assert effect.difference == pytest.approx(difference)
        assert effect.high - effect.difference == pytest.approx(error * stats.t.ppf(1 - 0.05 / 2 / 2, df), rel=1e-6)
        assert effect.p == pytest.approx(min(2 * 2 * stats.t.sf(difference / error, df), 1), rel=1e-6)
        assert "Bonferroni" in effect.method and "pooled over 3 arms" in effect.method


def test_arms_whose_spreads_differ_have_welchs_test():
    arms = {"a": [50.0, 50.01, 50.02, 50.03], "b": [49.0, 51.0, 53.0, 55.0], "c": [50.0, 50.02, 50.04, 50.05]}
    effects = neighbours(arms)
    for name, before in (("b", "a"), ("c", "b")):
        found = stats.ttest_ind(arms[name], arms[before], equal_var=False)
        assert effects[name].p == pytest.approx(min(2 * found.pvalue, 1), rel=1e-6)
        assert "Welch" in effects[name].method


def test_seeds_are_planned_with_the_same_comparison():
    effect = neighbours(ARMS)["c"]
    more, is_decisive = more_seeds(effect, 0.2)
    n, df = 3 + more, 6 + 3 * more
    shift, critical = 0.2 / effect.std / np.sqrt(2 / n), stats.t.ppf(1 - 0.05 / 2 / 2, df)
    assert not is_decisive and stats.nct.sf(critical, df, shift) > 0.8, "the uncertain std asks for more, not fewer"


@pytest.mark.parametrize("arms", [{"a": [50.0]}, {"a": [50.0], "b": [51.0]}])
def test_without_spread_there_is_no_interval(arms):
    assert all(effect.low is None and effect.p is None for effect in neighbours(arms).values())
    assert len(neighbours(arms)) == len(arms) - 1
