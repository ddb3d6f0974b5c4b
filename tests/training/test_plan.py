"""Budgets, plans and the strength curve in closed form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minuteloop.schema import Recipe, parse_budget
from minuteloop.training.plan import auto_strength, make_plan
from minuteloop.validation import ConfigError


@pytest.mark.parametrize(
    ("budget", "parsed"),
    [
        ("60s", (60, "s")),
        ("1.5min", (90, "s")),
        ("1h", (3600, "s")),
        ("200ep", (200, "ep")),
        ("5000steps", (5000, "steps")),
    ],
)
def test_budget_is_parsed_with_its_unit(budget, parsed):
    assert parse_budget(budget) == parsed


def plan(budget, rate=0.0, images=45_000, **recipe):
    return make_plan(budget, Recipe(batch_size=128, **recipe), lambda batch, epochs: batch / epochs, images, rate)


def test_time_budget_becomes_the_steps_that_fit():
    frozen = plan("60s", rate=20.5)
    assert frozen.steps == 1230 and frozen.seconds_asked == 60
    assert frozen.epochs == pytest.approx(1230 * 128 / 45_000)


@given(st.integers(1, 100_000))
def test_any_run_logs_at_least_twenty_times_and_never_more_often_than_needed(steps):
    """A log waits for the device: in long runs every 50 steps, in runs below 20 at every step."""
    every = plan(f"{steps}steps").log_every
    assert steps // every >= min(steps, 20)
    assert every == 50 or steps // (every + 1) < 20


def test_long_run_logs_every_fifty_steps():
    assert [plan(f"{steps}steps").log_every for steps in (7, 32, 60, 999, 5000)] == [1, 1, 3, 49, 50]


def test_epoch_budget_counts_complete_batches():
    assert plan("3ep").steps == 3 * (45_000 // 128)
    assert plan("3ep").seconds_asked is None


def test_plan_depends_on_the_steps_not_on_the_budgets_unit():
    """budget=<N>steps then repeats a run that was planned by time."""
    timed, counted = plan("60s", rate=20.0), plan("1200steps")
    assert (timed.steps, timed.lr, timed.strength, timed.epochs) == (
        counted.steps,
        counted.lr,
        counted.strength,
        counted.epochs,
    )


def test_numbers_override_auto():
    assert plan("10steps", lr=0.3, strength=0.7).lr == 0.3
    assert plan("10steps", lr=0.3, strength=0.7).strength == 0.7


def test_auto_strength_is_0_up_to_30_epochs_and_1_from_300_on():
    assert auto_strength(300) == auto_strength(1000) == 1
    assert auto_strength(30 * 10**0.5) == 0.5  # halfway between log 30 and log 300
    assert auto_strength(30) == auto_strength(0.1) == 0


@given(st.floats(0.01, 2000), st.floats(0.01, 2000))
def test_auto_strength_never_falls_and_is_a_multiple_of_a_twentieth(one, other):
    low, high = sorted((one, other))
    assert 0 <= auto_strength(low) <= auto_strength(high) <= 1
    assert auto_strength(low) * 20 == pytest.approx(round(auto_strength(low) * 20))


def test_a_time_budget_without_a_rate_is_an_error():
    with pytest.raises(ConfigError, match="budget=60s: needs a measured rate"):
        plan("60s")
