"""Calibration is bounded by the budget, weighs a recipe's phases, and leaves the net as it was."""

import time
from types import SimpleNamespace

import pytest
import torch
from small_run import SMALL, training_step

from minuteloop import compose
from minuteloop.hardware import resolve_auto
from minuteloop.training import calibrate
from minuteloop.training.build import build
from minuteloop.training.classifier import Classifier
from minuteloop.training.stopwatch import Stopwatch

SLOW_STEP = 0.3  # seconds


def parts_of(*overrides: str):
    return build(resolve_auto(compose([*SMALL, *overrides])))


@pytest.fixture
def slow_steps(monkeypatch) -> list[float]:
    """Make each training step slow; return the phases of the steps taken."""
    phases = []

    def slow_training_step(module, batch, batch_idx):
        phases.append(module.phase(module.global_step))
        time.sleep(SLOW_STEP)
        return training_step(module, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", slow_training_step)
    return phases


def test_calibration_of_slow_steps_takes_two_steps(slow_steps):
    """6 steps fit the budget of 2 s; two full rounds would take 12."""
    stopwatch = Stopwatch()
    plan = calibrate.calibrate(parts_of("budget=2s"), stopwatch)
    assert len(slow_steps) == 2
    assert 4 <= plan.steps <= 2 / SLOW_STEP
    assert stopwatch.seconds["train"] == stopwatch.seconds["compile"] == 0 < stopwatch.seconds["calibrate"]


def test_calibration_of_slow_steps_takes_two_steps_in_each_phase(slow_steps):
    parts = parts_of("budget=2s", "ingredient=[progressive]", "recipe.progressive.phases=2", "precision=fp32")
    calibrate.calibrate(parts, Stopwatch())
    assert slow_steps == [0.0] * 2 + [0.5] * 2


def test_calibration_leaves_the_net_as_it_was():
    parts = parts_of("budget=0.1s")
    before = {name: tensor.clone() for name, tensor in parts.net.state_dict().items()}
    plan = calibrate.calibrate(parts, Stopwatch())
    after = parts.net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before) and plan.steps >= 1
    assert all(parameter.grad is None for parameter in parts.net.parameters())


@pytest.mark.parametrize("budget", ["7steps", "2ep"])
def test_budget_of_steps_or_epochs_needs_no_calibration(budget, monkeypatch):
    monkeypatch.setattr(calibrate, "measure_rate", lambda *_: pytest.fail("measured"))
    parts = parts_of(f"budget={budget}")
    assert calibrate.calibrate(parts, Stopwatch()).steps == {"7steps": 7, "2ep": 40}[budget]


def test_mean_rate_weighs_phases_by_their_fraction_of_the_steps():
    """A quarter of the steps at 40 a second and the rest at 10: 100 steps take 25/40 + 75/10 = 8.125 s."""
    rates = [SimpleNamespace(steps_per_second=40.0), SimpleNamespace(steps_per_second=10.0)]
    assert calibrate._mean_rate((0.0, 0.25), rates) == pytest.approx(100 / 8.125)
    assert calibrate._mean_rate((0.0,), rates[:1]) == pytest.approx(40.0)


def test_second_round_is_measured_with_the_strength_of_the_first(monkeypatch):
    rounds = []

    def measure(parts, plan, phase, seconds, patience):
        rounds.append((plan.strength, seconds, patience))
        return SimpleNamespace(steps_per_second=100.0, first_seconds=0.0, is_slow=False)

    monkeypatch.setattr(calibrate, "measure_rate", measure)
    parts = parts_of("budget=60s", "recipe.strength=auto")
    plan = calibrate.calibrate(parts, Stopwatch())
    assert plan.steps == 6000 and plan.epochs == pytest.approx(6000 * 32 / 640) and set(plan.strength.values()) == {1}
    assert [times for _, *times in rounds] == [[pytest.approx(0.3), 6.0], [pytest.approx(2.4), 6.0]]
    assert rounds[0][0]["mixup"] < 1 and rounds[1][0] == plan.strength, "the first is the rough rate's"
