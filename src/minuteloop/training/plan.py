"""The frozen plan: a budget as a number of steps, and the strength and learning rate that fit it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from minuteloop.schema import Recipe, parse_budget
from minuteloop.validation import ConfigError

STRENGTH_RAMP = (30.0, 300.0)  # epochs at which strength=auto leaves 0 and reaches 1


@dataclass(frozen=True)
class Plan:
    """What is frozen before the first step; training takes exactly `steps` steps."""

    steps: int
    batch_size: int  # images of an optimizer step
    epochs: float  # passes over the training images
    strength: float  # in [0, 1], see schema.Recipe
    lr: float  # peak
    weight_decay: float
    seconds_asked: float | None  # None where the budget is a number of steps or epochs


def make_plan(
    budget: str,
    recipe: Recipe,
    auto_lr: Callable[[int, float], float],
    train_images: int,
    steps_per_second: float = 0.0,
) -> Plan:
    """Return the plan for a valid `budget`.

    `auto_lr(batch_size, epochs)` is the optimizer's rule for the peak learning rate; `steps_per_second` is needed for a
    budget of time only.

    Raises:
        ConfigError: for a budget of time without a rate.
    """
    amount, unit = parse_budget(budget)
    if unit == "s" and not steps_per_second:
        raise ConfigError(f"budget={budget}: needs a measured rate; outside of a run use epochs or steps, such as 2ep")
    steps_per_epoch = max(train_images // recipe.batch_size, 1)
    per_unit = {"s": steps_per_second, "ep": steps_per_epoch, "steps": 1}[unit]
    steps = max(round(amount * per_unit), 1)
    epochs = steps * recipe.batch_size / train_images
    return Plan(
        steps=steps,
        batch_size=recipe.batch_size,
        epochs=epochs,
        strength=auto_strength(epochs) if recipe.strength == "auto" else float(recipe.strength),
        lr=auto_lr(recipe.batch_size, epochs) if recipe.lr == "auto" else float(recipe.lr),
        weight_decay=recipe.weight_decay,
        seconds_asked=amount if unit == "s" else None,
    )


def auto_strength(epochs: float) -> float:
    """Return 0 up to 30 epochs, 1 from 300 on, and a line over log(epochs) between, in steps of 0.05.

    On CIFAR-10's validation split (ConvNeXt at size=pico, recipe=deit, one run each) strength 0.2 cost 3.7 points at 3
    epochs, and 0.25 cost 3.4 at 10 and 3.0 at 30.
    """
    low, _ = STRENGTH_RAMP
    return round(20 * min(max(math.log10(epochs / low), 0.0), 1.0)) / 20
