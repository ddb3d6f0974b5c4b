"""Rankings at two budgets, against scipy and closed forms."""

import numpy as np
import pytest
from scipy import stats

from minuteloop.report.statistics.rank_transfer import kendall_tau, rank_transfer


def budget(means, std, n, generator):
    return {f"a{number}": list(mean + std * generator.standard_normal(n)) for number, mean in enumerate(means)}


def exact(*means, width=0.01):
    """Arms with three seeds that are almost equal."""
    return {f"a{number}": [mean - width, mean, mean + width] for number, mean in enumerate(means)}


def test_kendall_tau_is_scipys_with_ties():
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 4, (2, 50, 7)).astype(float)
    expected = [stats.kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]
    assert kendall_tau(a, b) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(kendall_tau(np.ones(4), np.arange(4.0)))


def test_equal_rankings():
    found = rank_transfer(exact(*range(80, 90)), exact(*np.linspace(90, 95, 10)))
    for agreement, arms in ((found.all, 10), (found.top, 4)):
        assert (agreement.tau, agreement.low, agreement.high) == (1, 1, 1)
        assert (agreement.ceiling_short, agreement.ceiling_long) == (1, 1) and len(agreement.arms) == arms
    assert found.top.arms == ["a6", "a7", "a8", "a9"]
    assert found.flips == [] and found.winner_short == found.winner_long == "a9"
    assert (found.regret, found.regret_low, found.regret_high) == (0, 0, 0)


def test_a_flip_and_what_it_costs():
    """Of six pairs one is discordant: tau = 4 / 6. At the long budget a3 is 0.5 behind a2."""
    found = rank_transfer(exact(80, 81, 82, 83), exact(90, 91, 92, 91.5))
    assert found.all.tau == pytest.approx(4 / 6)
    assert found.flips == [("a3", "a2")]
    assert (found.winner_short, found.winner_long) == ("a3", "a2")
    assert found.regret == pytest.approx(0.5) and 0.48 <= found.regret_low <= 0.5 <= found.regret_high <= 0.52
    assert found.top is None  # two of four arms


def test_a_flip_within_the_noise_is_none():
    found = rank_transfer(exact(80, 81, 82, 83, width=1.5), exact(90, 91, 92, 91.5, width=1.5))
    assert found.flips == [] and found.all.low < 4 / 6


def test_arms_that_only_one_budget_has_are_left_out():
    short, long = exact(80, 81, 82, 83, 84), exact(90, 91, 92)
    assert rank_transfer(short, long).all.arms == ["a0", "a1", "a2"]
    with pytest.raises(ValueError, match="a ranking needs 3 arms that both budgets have, got a0, a1"):
        rank_transfer(short, exact(1, 2))


def test_one_seed_has_neither_interval_nor_ceiling():
    short = exact(80, 81, 82) | {"a1": [81]}
    found = rank_transfer(short, exact(90, 91, 92))
    assert (found.all.tau, found.all.low, found.all.ceiling_short, found.regret_high) == (1, None, None, None)
    assert found.all.ceiling_long == 1


def test_equal_arms_have_no_ranking():
    assert rank_transfer(exact(80, 81, 82), exact(90, 90, 90)).all is None


def test_noise_ceiling_is_the_agreement_of_two_halves():
    """Closed form: the expected product of the signs that two independent halves of 2 seeds give a pair of arms."""
    generator, gap, std = np.random.default_rng(0), 0.4, 0.5
    ceilings = [
        rank_transfer(budget((0, gap, 2 * gap), std, 4, generator), budget((0, 1, 2), 0.001, 4, generator)).all
        for _ in range(60)
    ]
    orders = [(2 * stats.norm.cdf(distance / std) - 1) ** 2 for distance in (gap, gap, 2 * gap)]
    found = [agreement.ceiling_short for agreement in ceilings]
    assert np.mean(found) == pytest.approx(np.mean(orders), abs=3 * np.std(found) / 60**0.5)
    assert all(agreement.ceiling_long == 1 for agreement in ceilings)


def test_interval_follows_the_noise_and_is_the_same_for_every_reader():
    generator = np.random.default_rng(0)
    noisy = [budget(np.arange(8) / 10, 0.3, 3, generator) for _ in range(2)]
    found = rank_transfer(*noisy)
    assert found == rank_transfer(*noisy) != rank_transfer(*noisy, seed=1)
    assert -1 <= found.all.low < found.all.tau <= found.all.high <= 1 and found.all.high - found.all.low > 0.3


@pytest.mark.exhaustive
def test_interval_does_not_overstate_the_agreement():
    """The tau of the true means is below the interval in at most 2.5 % of studies, within two standard errors."""
    generator, below, studies = np.random.default_rng(0), 0, 300
    for _ in range(studies):
        short = np.arange(10) / 5
        long = short + 0.3 * generator.standard_normal(10)
        found = rank_transfer(budget(short, 0.3, 3, generator), budget(long, 0.3, 3, generator))
        below += stats.kendalltau(short, long).statistic < found.all.low
    assert below / studies <= 0.025 + 2 * (0.025 * 0.975 / studies) ** 0.5
