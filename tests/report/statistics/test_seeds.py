"""Planning, against a table of seeds, closed forms and simulated studies."""

import numpy as np
import pytest
from scipy import stats

from minuteloop.report.statistics.critical_values import AllPairs, ManyToOne, critical_value
from minuteloop.report.statistics.effects import Effect, against_baseline
from minuteloop.report.statistics.seeds import more_seeds, resolvable, seeds_needed, winners_inflation

DIFFERENCES = (0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
SEEDS = {  # Student's t of two samples, two-sided 0.05, power 0.8: as R's power.t.test and G*Power round it up
    0.13: (28, 13, 8, 5, 3, 2),
    0.15: (37, 17, 10, 6, 3, 2),
    0.20: (64, 29, 17, 9, 4, 3),
    0.25: (100, 45, 26, 12, 6, 3),
    0.30: (143, 64, 37, 17, 7, 3),
    0.35: (194, 87, 50, 23, 9, 4),
}
DRAWS = 400_000


def effect(n=3, n_baseline=3, std=0.2, df=4.0, df_per_seed=2.0, family=ManyToOne((0.5,))):  # noqa: B008
    return Effect(0.1, -0.3, 0.5, 0.5, n, n_baseline, "a test", std, df, df_per_seed, family)


@pytest.mark.parametrize("std", SEEDS)
def test_seeds_needed_is_the_table_of_two_samples(std):
    assert tuple(seeds_needed(std, difference) for difference in DIFFERENCES) == SEEDS[std]


def test_what_the_seeds_of_the_table_resolve():
    for std, row in SEEDS.items():
        for seeds, difference in zip(row, DIFFERENCES, strict=True):
            assert resolvable(std, seeds) <= difference
            assert seeds == 2 or resolvable(std, seeds - 1) > difference
    with pytest.raises(ValueError, match="seeds=1: must be an integer >= 2"):
        resolvable(0.2, 1)


@pytest.mark.parametrize(("std", "difference"), [(0.0, 0.2), (0.2, 0.0), (0.2, float("nan"))])
def test_stds_and_differences_must_be_positive(std, difference):
    with pytest.raises(ValueError, match=r"^(std|difference)=\S+: must be a number > 0$"):
        seeds_needed(std, difference)
    with pytest.raises(ValueError, match=r"^resolve=-1: must be a number > 0$"):
        more_seeds(effect(), -1)


def test_a_hopeless_plan_is_a_large_number():
    """2 * (1.96 + 0.8416)^2 * (20 / 0.001)^2, six billion seeds."""
    assert seeds_needed(20, 0.001) == pytest.approx(2 * 2.801585**2 * (20 / 0.001) ** 2, rel=1e-3)


@pytest.mark.parametrize(("std", "seeds"), [(0.2, 2), (0.2, 3), (1.5, 40)])
def test_resolvable_has_the_power_of_the_noncentral_t(std, seeds):
    df, noncentrality = 2 * seeds - 2, resolvable(std, seeds, power=0.9) / std * (seeds / 2) ** 0.5
    assert stats.nct.sf(stats.t.ppf(0.975, df), df, noncentrality) == pytest.approx(0.9, abs=3e-4)


def test_more_arms_need_more_seeds_and_have_the_planned_power():
    """Simulated: five arms and a baseline, spread pooled; the first arm is better by half a std."""
    seeds = seeds_needed(1.0, 0.5, arms=5)
    assert seeds > seeds_needed(1.0, 0.5) == 64
    generator, powers = np.random.default_rng(0), []
    for n in (seeds - 3, seeds):
        df = 6 * (n - 1)
        difference = 0.5 + (2 / n) ** 0.5 * generator.standard_normal(DRAWS)
        errors = (2 / n * generator.chisquare(df, DRAWS) / df) ** 0.5
        powers.append((difference / errors > critical_value(ManyToOne((0.5,) * 5), df)).mean())
    assert powers[0] < 0.8 <= powers[1] + 0.002


@pytest.mark.parametrize(
    ("arms", "found"),
    [
        (effect(), (0.05, 0.2)),
        (effect(df=12, df_per_seed=6, family=ManyToOne((0.5,) * 5)), (0.05, 0.2)),
        (effect(n=5, n_baseline=10, df=13, family=ManyToOne((2 / 3,))), (0.05, 0.2)),
        (effect(df=12, df_per_seed=6, family=AllPairs(6)), (0.05, 0.2)),
    ],
)
def test_more_seeds_have_the_power_averaged_over_what_the_std_may_be(arms, found):
    """Simulated: the true std is drawn given the estimated one, then a study with the added seeds."""
    for difference in found:
        more, is_decisive = more_seeds(arms, difference)
        assert not is_decisive
        generator, powers = np.random.default_rng(1), []
        for added in (int(more * 0.95) - 1, more):
            std = arms.std * (arms.df / generator.chisquare(arms.df, DRAWS)) ** 0.5
            df = arms.df + arms.df_per_seed * added
            error = (1 / (arms.n + added) + 1 / (arms.n_baseline + added)) ** 0.5 * std
            estimated = error * (generator.chisquare(df, DRAWS) / df) ** 0.5
            t = (difference + error * generator.standard_normal(DRAWS)) / estimated
            family = (
                arms.family if isinstance(arms.family, AllPairs) else ManyToOne((0.5,) * len(arms.family.correlations))
            )
            powers.append((t > critical_value(family, df)).mean())
        assert powers[0] < 0.8 <= powers[1] + 0.003


def test_an_uncertain_std_asks_for_more_seeds_than_a_known_one():
    known = seeds_needed(0.2, 0.1)
    asked = [3 + more_seeds(effect(df=df), 0.1)[0] for df in (2, 4, 16, 1000)]
    assert asked == sorted(asked, reverse=True) and asked[-1] == pytest.approx(known, abs=1)


def test_seeds_that_have_the_power_already_narrow_the_interval():
    """Half a width of the interval below half of the difference: it leaves out 0, or lies within +-difference."""
    many = effect(n=20, n_baseline=20, df=38)
    more, is_decisive = more_seeds(many, 0.2)
    assert is_decisive
    halves = [stats.t.ppf(0.975, 38 + 2 * added) * 0.2 * (2 / (20 + added)) ** 0.5 for added in (more - 1, more)]
    assert halves[1] <= 0.1 < halves[0]


def test_winners_inflation_is_the_expected_largest_of_normals():
    """Harter, Biometrika 48 (1961) 151: 0.56419, 1.16296, 1.53875, 1.86748, 2.24907 of 2, 5, 10, 20, 50 normals."""
    for arms, expected in {1: 0.0, 2: 0.56419, 5: 1.16296, 10: 1.53875, 20: 1.86748, 50: 2.24907}.items():
        assert winners_inflation(1.0, arms) == pytest.approx(expected, abs=6e-6)
    assert winners_inflation(0.15, 10, seeds=4) == pytest.approx(0.15 * 1.53875 / 2, abs=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seeds", [3, 5])
def test_seeds_that_a_verdict_asks_for_resolve_the_difference(seeds):
    """Of studies that do not resolve a true difference of one std, at least 80 % do with the seeds asked for."""
    generator, asked, resolved = np.random.default_rng(2), 0, 0
    for _ in range(2000):
        base, arm = 90 + generator.standard_normal((2, seeds)) + [[0], [1]]
        first = against_baseline({"base": list(base), "arm": list(arm)}, "base")["arm"]
        if first.low > 0 or first.high < 0:
            continue
        asked += 1
        more, _ = more_seeds(first, 1.0)
        added = 90 + generator.standard_normal((2, more)) + [[0], [1]]
        arms = {"base": [*base, *added[0]], "arm": [*arm, *added[1]]}
        resolved += against_baseline(arms, "base")["arm"].low > 0
    assert asked > 1000 and resolved / asked > 0.8 - 2 * (0.16 / asked) ** 0.5
