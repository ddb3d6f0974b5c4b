"""Budgets, plans and the strength curve in closed form."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minuteloop.recipe.augment.label_smoothing import LabelSmoothing
from minuteloop.recipe.augment.mixup import Mixup
from minuteloop.recipe.ingredients import Ingredients, auto_strength
from minuteloop.recipe.losses import CrossEntropy
from minuteloop.recipe.schedules import Cosine
from minuteloop.schema import Recipe, parse_budget
from minuteloop.training.plan import make_plan
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


class Inverse:
    """An optimizer ingredient whose automatic learning rate falls with the planned epochs."""

    weight_decay = 0.02

    def auto_lr(self, batch_size, epochs):
        return batch_size / epochs


INGREDIENTS = Ingredients(Inverse(), Cosine(), CrossEntropy(), {"mixup": Mixup(), "smoothing": LabelSmoothing()})


def plan(budget, rate=0.0, images=45_000, **recipe):
    return make_plan(budget, Recipe(batch_size=128, **recipe), INGREDIENTS, images, rate)


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
    assert plan("10steps", lr=0.3, strength=0.7).strength == {"mixup": 0.7, "smoothing": 0.7}
    assert plan("10steps", weight_decay=0.0).weight_decay == 0.0


def test_auto_weight_decay_is_the_optimizers():
    assert plan("10steps").weight_decay == 0.02


def test_auto_strength_is_decided_by_ingredient():
    assert plan("2ep").strength == {"mixup": 0.0, "smoothing": 0.0}
    assert plan("10.1ep").strength == {"mixup": 0.0, "smoothing": 1.0}
    assert plan("2.1ep", paper_epochs=2.0).strength == {"mixup": 1.0, "smoothing": 1.0}
    assert plan("300ep", paper_epochs=299).strength == {"mixup": 1.0, "smoothing": 1.0}


def test_what_the_user_names_is_at_full_strength_whatever_strength_is():
    assert plan("2ep", named=["mixup"]).strength == {"mixup": 1.0, "smoothing": 0.0}
    assert plan("2ep", named=["mixup"], strength=0.0).strength == {"mixup": 1.0, "smoothing": 0.0}
    assert plan("2ep", named=["mixup"], strength={"mixup": 0.5}).strength == {"mixup": 0.5, "smoothing": 0.0}


def test_auto_strength_is_0_while_off_and_1_exactly_from_the_papers_length_on():
    assert auto_strength(300, 300, 30) == auto_strength(1000, 300, 30) == 1
    assert auto_strength(299.9, 300, 30) == 0.95
    assert auto_strength(30 * 10**0.5 + 0.01, 300, 30) == 0.5  # halfway between log 30 and log 300
    assert auto_strength(30, 300, 30) == auto_strength(0.1, 300, 30) == 0
    assert auto_strength(0.1, 300, 0) == 1  # never off
    assert auto_strength(100, 100, 30) == 1 and auto_strength(8.0, 24, 30) == 0 and auto_strength(24, 24, 30) == 1


@given(st.floats(0.01, 2000), st.floats(0.01, 2000), st.floats(0.1, 1000), st.floats(0, 500))
@example(1.0, 4.0, 5.0, 5e-324)  # the smallest float above 0
def test_auto_strength_never_falls_and_is_a_multiple_of_a_twentieth(one, other, paper_epochs, off_until):
    low, high = (auto_strength(epochs, paper_epochs, off_until) for epochs in sorted((one, other)))
    assert 0 <= low <= high <= 1
    assert low * 20 == pytest.approx(round(low * 20))


def test_a_time_budget_without_a_rate_is_an_error():
    with pytest.raises(ConfigError, match="budget=60s: needs a measured rate"):
        plan("60s")
