"""How benches measure: rotation of the arms, medians, ratios and their intervals."""

import itertools

import pytest
from benches import rounds as bench_rounds


def test_arms_alternate_and_each_goes_first_equally_often():
    order, counter = [], itertools.count()
    arms = {name: lambda name=name: order.append(name) or next(counter) for name in "abc"}
    figures = bench_rounds.alternate(arms, 3)
    assert "".join(order[3:]) == "abcbcacab" and sorted(order[:3]) == list("abc")
    assert figures == {"a": [3, 8, 10], "b": [4, 6, 11], "c": [5, 7, 9]}  # the uncounted round took 0, 1 and 2


def test_spread_is_the_median_with_its_range():
    assert bench_rounds.spread([4.0, 1.0, 2.00004]) == {"median": 2.0, "range": [1.0, 4.0]}


def test_ratios_are_paired_by_round():
    # 2, 2 and 3 times, although the medians differ by a factor of 3
    ratios = bench_rounds.times([2.0, 20.0, 15.0], [1.0, 10.0, 5.0])
    assert ratios == {"median": 2.0, "range": [2.0, 3.0], "interval": [2.0, 3.0]}


@pytest.mark.parametrize(("rounds", "ranks"), [(10, [2, 9]), (20, [6, 15])])
def test_interval_has_the_ranks_of_published_sign_test_tables(rounds, ranks):
    figures = [float(rank) for rank in range(1, rounds + 1)]
    assert bench_rounds.times(figures, [1.0] * rounds)["interval"] == ranks


def test_seconds_per_call_is_a_mean(monkeypatch):
    clock = itertools.count(step=6.0)
    monkeypatch.setattr(bench_rounds.time, "perf_counter", lambda: next(clock))
    calls = []
    assert bench_rounds.seconds_per_call(lambda: calls.append(1), "cpu", 3) == 2.0 and len(calls) == 3
