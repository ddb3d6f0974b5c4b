"""Distributions of the largest t statistic, against printed tables, scipy and simulated studies."""

import numpy as np
import pytest
from scipy import stats

from minuteloop.report.statistics.critical_values import AllPairs, ManyToOne, critical_value, root, spread_grid

# Dunnett, Biometrics 20 (1964) 482, two-sided 5 %, equal sizes: {df: d of 1, 2, ... 9 arms beside the control}
DUNNETT_1964 = {
    5: (2.57, 3.03, 3.29, 3.48, 3.62, 3.73, 3.82, 3.90, 3.97),
    10: (2.23, 2.57, 2.76, 2.89, 2.99, 3.07, 3.14, 3.19, 3.24),
    20: (2.09, 2.38, 2.54, 2.65, 2.73, 2.80, 2.86, 2.90, 2.95),
}
# the studentized range at 5 % as statistics textbooks print it: {(arms, df): q}
STUDENTIZED_RANGE = {(3, 5): 4.60, (3, 10): 3.88, (6, 20): 4.45, (10, 60): 4.65, (5, 120): 3.92}


@pytest.mark.parametrize("df", DUNNETT_1964)
def test_many_to_one_critical_values_are_those_of_dunnetts_table(df):
    found = [critical_value(ManyToOne((0.5,) * arms), df) for arms in range(1, 10)]
    assert found == pytest.approx(DUNNETT_1964[df], abs=0.0051)


@pytest.mark.parametrize(("arms", "df"), STUDENTIZED_RANGE)
def test_all_pairs_critical_values_are_those_of_the_studentized_range(arms, df):
    expected = STUDENTIZED_RANGE[arms, df]
    assert critical_value(AllPairs(arms), df) * 2**0.5 == pytest.approx(expected, abs=0.0051)


@pytest.mark.parametrize("df", [1, 2, 3.7, 12, 300])
def test_one_comparison_is_students_t(df):
    for t in (0.5, 2.0, 4.3):
        assert ManyToOne((0.7,)).tail(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=2e-4)
        assert AllPairs(2).tail(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=2e-4)


@pytest.mark.parametrize(("arms", "t", "df"), [(4, 2.9, 8), (12, 3.1, 24), (6, 1.5, 3.3)])
def test_all_pairs_tail_is_scipys(arms, t, df):
    assert AllPairs(arms).tail(t, df) == pytest.approx(stats.studentized_range.sf(t * 2**0.5, arms, df), rel=1e-5)


def test_of_uncorrelated_arms_with_known_spread_tails_multiply():
    """Without a common baseline's noise the arms are independent: Sidak's formula."""
    t, one = 2.5, 2 * stats.norm.sf(2.5)
    assert ManyToOne((0.0,) * 7).tail(t, 1e6) == pytest.approx(1 - (1 - one) ** 7, rel=1e-4)


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3, 3, 3), (12, 2, 3, 2, 1, 5), (1, 6, 6, 6, 6, 6)])
def test_unequal_sizes_keep_the_rate_of_simulated_studies(sizes):
    """400,000 studies of six equal arms, spread pooled: any |t| exceeds the critical value in 5 % of them."""
    generator, sizes, studies = np.random.default_rng(0), np.array(sizes), 400_000
    df = sizes.sum() - len(sizes)
    means = generator.standard_normal((studies, len(sizes))) / np.sqrt(sizes)
    spread = np.sqrt(generator.chisquare(df, (studies, 1)) / df)
    errors = np.sqrt(1 / sizes[1:] + 1 / sizes[0])
    largest = (abs(means[:, 1:] - means[:, :1]) / spread / errors).max(1)
    critical = critical_value(ManyToOne(tuple(sizes[1:] / (sizes[1:] + sizes[0]))), df)
    assert (largest > critical).mean() == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / studies) ** 0.5)


def test_spread_grid_has_the_moments_of_a_chi_distribution():
    for df in (2, 5, 40):
        spreads, weights = spread_grid(df)
        assert weights @ spreads**2 == pytest.approx(1, abs=1e-5)
        assert weights @ spreads == pytest.approx(stats.chi.mean(df) / df**0.5, rel=1e-6)


def test_root_without_a_sign_change_is_an_error():
    assert root(lambda x: x**3 - 2, 0, 5) == pytest.approx(2 ** (1 / 3), abs=1e-6)
    with pytest.raises(ValueError, match="no sign change between 3 and 5"):
        root(lambda x: x**3 - 2, 3, 5)
