"""Differences with simultaneous intervals, against values that R and scipy publish, and simulated studies."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from minuteloop.report.statistics.effects import against_baseline, all_pairs, interval, spreads_differ
from minuteloop.validation import ConfigError

# Dunnett 1955, blood counts, as in the documentation of scipy.stats.dunnett
BLOOD = {
    "control": [7.40, 8.50, 7.20, 8.24, 9.84, 8.32],
    "a": [9.76, 8.80, 7.68, 9.36],
    "b": [12.80, 9.68, 12.16, 9.20, 10.55],
}
# R's datasets PlantGrowth and InsectSprays
PLANTS = {
    "ctrl": [4.17, 5.58, 5.18, 6.11, 4.50, 4.61, 5.17, 4.53, 5.33, 5.14],
    "trt1": [4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69],
    "trt2": [6.31, 5.12, 5.54, 5.50, 5.37, 5.29, 4.92, 6.15, 5.80, 5.26],
}
SPRAYS = {
    "A": [10, 7, 20, 14, 14, 12, 10, 23, 17, 20, 14, 13],
    "C": [0, 1, 7, 2, 3, 1, 2, 1, 3, 0, 1, 4],
    "D": [3, 5, 12, 6, 4, 3, 5, 5, 5, 5, 2, 4],
}


def bounds(effect):
    return effect.low, effect.high


def normal_arms(generator, n, stds):
    return {str(number): list(90 + std * generator.standard_normal(n)) for number, std in enumerate(stds)}


# --- against published values --------------------------------------------------------------------------------------


def test_dunnetts_example():
    effects = against_baseline(BLOOD, "control")
    assert list(effects) == ["a", "b"]
    # scipy's documentation; its integration is random, to about 1e-3
    assert effects["a"].p == pytest.approx(0.62004941, abs=1e-3)
    assert effects["b"].p == pytest.approx(0.0059035, abs=3e-4)
    assert bounds(effects["a"]) == pytest.approx((-1.256, 2.556), abs=3e-3)
    assert bounds(effects["b"]) == pytest.approx((0.840, 4.416), abs=3e-3)
    assert (effects["b"].n, effects["b"].n_baseline, effects["b"].df) == (5, 6, 12)
    assert effects["a"].method == "Dunnett, spread pooled over 3 arms"


def test_tukeys_example():
    """R: TukeyHSD(aov(weight ~ group, PlantGrowth)), with the signs of a minus b."""
    effects = all_pairs(PLANTS)
    printed = {
        ("ctrl", "trt1"): (0.371, -0.3202161, 1.0622161, 0.3908711),
        ("ctrl", "trt2"): (-0.494, -1.1852161, 0.1972161, 0.1979960),
        ("trt1", "trt2"): (-0.865, -1.5562161, -0.1737839, 0.0120064),
    }
    assert list(effects) == list(printed)
    for pair, effect in effects.items():
        assert (effect.difference, effect.low, effect.high, effect.p) == pytest.approx(printed[pair], abs=2e-6)
        assert effect.method == "Tukey, spread pooled over 3 arms"


def test_games_howell_where_spreads_differ():
    """scipy 1.17.1: tukey_hsd(A, C, D, equal_var=False)."""
    effects = all_pairs(SPRAYS)
    printed = {
        ("A", "C"): (8.57328378, 16.26004956, 1.50218781e-06),
        ("A", "D"): (5.62138874, 13.54527793, 2.87580351e-05),
        ("C", "D"): (-5.15444507, -0.51222159, 1.51596713e-02),
    }
    for pair, effect in effects.items():
        assert bounds(effect) == pytest.approx(printed[pair][:2], abs=1e-5)
        assert effect.p == pytest.approx(printed[pair][2], rel=2e-3)
        assert effect.method == "Games-Howell: spreads differ between arms (Bartlett's test, p = 0.012)"


def test_bartletts_test_is_rs():
    """R: bartlett.test gives p = 0.2371 for PlantGrowth; with two sprays it is compared with scipy."""
    assert spreads_differ(list(PLANTS.values())) is None
    assert stats.bartlett(*PLANTS.values()).pvalue == pytest.approx(0.2371, abs=1e-4)
    counts = [np.array(SPRAYS[name], float) for name in "AC"]
    assert spreads_differ(counts) == pytest.approx(stats.bartlett(*counts).pvalue)


def test_one_arm_is_students_or_welchs_t_test():
    (effect,) = against_baseline({"x": BLOOD["control"], "y": BLOOD["a"]}, "x").values()
    test = stats.ttest_ind(BLOOD["a"], BLOOD["control"])
    assert effect.p == pytest.approx(test.pvalue, rel=1e-6)
    assert bounds(effect) == pytest.approx(tuple(test.confidence_interval()), abs=1e-6)
    assert effect.method == "t test, spread pooled over 2 arms"
    (effect,) = against_baseline({"x": SPRAYS["C"], "y": SPRAYS["A"]}, "x").values()
    test = stats.ttest_ind(SPRAYS["A"], SPRAYS["C"], equal_var=False)
    assert effect.p == pytest.approx(test.pvalue, rel=3e-3)
    assert bounds(effect) == pytest.approx(tuple(test.confidence_interval()), abs=1e-5)
    assert effect.method.startswith("Welch: spreads differ")


def test_interval_is_students():
    low, high = stats.t.interval(0.9, 5, np.mean(BLOOD["control"]), stats.sem(BLOOD["control"]))
    found = interval(BLOOD["control"], 0.9)
    assert (found.mean, found.low, found.high) == pytest.approx((49.5 / 6, low, high))
    assert dataclasses.astuple(interval([93.1])) == (93.1, None, None, 1)


# --- few seeds -----------------------------------------------------------------------------------------------------


def test_an_arm_with_one_seed_borrows_the_spread_of_the_others():
    arms = {"base": [90.0, 90.2, 90.4], "x": [91.0], "y": [90.1, 90.3]}
    effect = against_baseline(arms, "base")["x"]
    variance = (0.08 + 0.02) / 3  # sums of squares, over 2 + 1 degrees of freedom
    assert (effect.std, effect.df) == pytest.approx((variance**0.5, 3))
    assert effect.difference == pytest.approx(0.8)
    # between Student's t of one comparison and Bonferroni's of two
    error = (variance * (1 / 1 + 1 / 3)) ** 0.5
    half = effect.high - effect.difference
    assert stats.t.ppf(0.975, 3) * error < half < stats.t.ppf(1 - 0.0125, 3) * error


@pytest.mark.parametrize(
    "compare", [lambda arms: against_baseline(arms, "a")["b"], lambda arms: all_pairs(arms)["a", "b"]]
)
def test_without_a_spread_there_is_no_interval(compare):
    one_seed = compare({"a": [90.0], "b": [91.0], "c": [92.0]})
    assert (one_seed.low, one_seed.high, one_seed.p) == (None, None, None)
    assert abs(one_seed.difference) == 1 and one_seed.method == "one seed an arm has no interval"
    equal = compare({"a": [10.0, 10.0], "b": [91.0, 91.0]})
    assert equal.low is None and "seeds of every arm give equal values" in equal.method


def test_one_seed_is_not_judged_by_the_spreads_of_others_that_differ():
    arms = {"base": [90, 90.1, 90.2, 90.1], "wild": [50, 90, 70, 20], "one": [91]}
    effects = against_baseline(arms, "base")
    assert effects["one"].low is None and effects["one"].method.endswith("and one seed has none")
    assert effects["wild"].low < effects["wild"].difference < effects["wild"].high < 30
    assert effects["wild"].df == pytest.approx(3, abs=0.01)


def test_two_equal_seeds_by_rounding_do_not_make_spreads_differ():
    """Of two seeds one pair in thirty has equal accuracies at a std of 0.15 and 5,000 images."""
    arms = {"base": [93.1, 93.3], "a": [93.2, 93.2], "b": [93.0, 93.3], "c": [92.9, 93.2]}
    assert against_baseline(arms, "base")["a"].method.startswith("Dunnett, spread pooled")


@pytest.mark.parametrize("values", [[], [90.0, float("nan")]])
def test_values_must_be_finite(values):
    with pytest.raises(ValueError, match="arm b: must have a finite value for each seed"):
        against_baseline({"a": [90.0, 91.0], "b": values}, "a")


def test_baseline_must_be_an_arm():
    with pytest.raises(ConfigError, match=r"^baseline=contrl: must be an arm\. Did you mean control\?$"):
        against_baseline(BLOOD, "contrl")


def test_every_reader_gets_the_same_interval():
    arms = normal_arms(np.random.default_rng(0), 3, [0.2] * 6)
    assert against_baseline(arms, "0") == against_baseline(dict(arms), "0")
    assert all_pairs(arms) == all_pairs(dict(arms))


# --- error rates ---------------------------------------------------------------------------------------------------


def rates(n, stds, studies, shift=0.0):
    """Return the rate of studies with any arm of which the interval leaves out the truth, and of 0 left out by one."""
    generator, wrong, resolved = np.random.default_rng(1), 0, 0
    for _ in range(studies):
        arms = normal_arms(generator, n, stds)
        arms["1"] = [value + shift for value in arms["1"]]
        effects = against_baseline(arms, "0")
        truth = {name: shift * (name == "1") for name in effects}
        wrong += any(not effect.low <= truth[name] <= effect.high for name, effect in effects.items())
        resolved += effects["1"].low > 0
    return wrong / studies, resolved / studies


def test_five_arms_of_three_seeds_rarely_differ_by_chance():
    """A/A at std 0.2: 0.05 within 3 standard errors of 400 studies, and far from the 0.14 of plain Welch tests."""
    wrong, _ = rates(3, [0.2] * 6, 400)
    assert wrong == pytest.approx(0.05, abs=3 * (0.05 * 0.95 / 400) ** 0.5)
    generator = np.random.default_rng(2)
    arms = generator.standard_normal((20_000, 6, 3))
    p = stats.ttest_ind(arms[:, 1:], arms[:, :1], axis=-1, equal_var=False).pvalue
    assert (p < 0.05).any(1).mean() == pytest.approx(0.14, abs=0.01)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("n", "stds", "low", "high"),
    [
        (3, [1] * 6, 0.033, 0.065),
        (10, [1] * 6, 0.033, 0.065),
        (10, [3, 1, 1, 1, 1, 1], 0.033, 0.07),
        (5, [1, 1, 1, 2, 2, 2], 0.033, 0.08),
        # three seeds cannot show that a spread differs; the docstring of spreads_differ has these
        (3, [3, 1, 1, 1, 1, 1], 0.11, 0.18),
    ],
)
def test_rate_of_any_wrong_interval(n, stds, low, high):
    """Of 1,500 studies; the lower bound is 0.05 less three standard errors."""
    assert low <= rates(n, stds, 1500)[0] <= high


@pytest.mark.exhaustive
@pytest.mark.parametrize(("n", "power"), [(3, 0.64), (5, 0.93)])
def test_power_of_one_arm_half_a_point_better_at_a_std_of_a_fifth(n, power):
    """Student's t of two samples: 1 - nct.cdf(t, 2 n - 2, 2.5 sqrt(n / 2)); Bartlett's test costs up to 0.02."""
    exact = stats.nct.sf(stats.t.ppf(0.975, 2 * n - 2), 2 * n - 2, 2.5 * (n / 2) ** 0.5)
    assert exact == pytest.approx(power, abs=0.01)
    assert rates(n, [0.2] * 2, 4000, shift=0.5)[1] == pytest.approx(exact - 0.01, abs=0.03)
