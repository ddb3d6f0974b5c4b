"""The frozen plan: a budget as a number of steps, and the strength and learning rate that fit it."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.recipe.ingredients import Ingredients
from minuteloop.schema import Recipe, parse_budget
from minuteloop.validation import ConfigError

LOG_EVERY = 50  # steps; between two logs nothing waits for the device
LOGGED = 20  # times that a run logs, at least; a shorter one logs every step


@dataclass(frozen=True)
class Plan:
    """What is frozen before the first step; training takes exactly `steps` steps."""

    steps: int
    batch_size: int  # images of an optimizer step
    epochs: float  # passes over the training images
    strength: dict[str, float]  # factor on each regularizer, in [0, 1], see schema.Recipe
    lr: float  # peak
    weight_decay: float
    seconds_asked: float | None  # None where the budget is a number of steps or epochs

    @property
    def log_every(self) -> int:
        """Steps between two logs of the training loss and the learning rate."""
        return min(max(self.steps // LOGGED, 1), LOG_EVERY)


def make_plan(
    budget: str,
    recipe: Recipe,
    ingredients: Ingredients,
    train_images: int,
    steps_per_second: float = 0.0,
) -> Plan:
    """Return the plan for a valid `budget`; `steps_per_second` is needed for a budget of time only.

    Raises:
        ConfigError: for a budget of time without a rate.
    """
    amount, unit = parse_budget(budget)
    if unit == "s" and not steps_per_second:
        raise ConfigError(f"budget={budget}: needs a measured rate; outside of a run use epochs or steps, such as 2ep")
    steps_per_epoch = max(train_images // recipe.batch_size, 1)
    per_unit = {"s": steps_per_second, "ep": steps_per_epoch, "steps": 1}[unit]
    steps = max(round(amount * per_unit), 1)
    epochs, optimizer = steps * recipe.batch_size / train_images, ingredients.optimizer
    return Plan(
        steps=steps,
        batch_size=recipe.batch_size,
        epochs=epochs,
        strength=ingredients.strengths(recipe.strength, recipe.named, epochs, recipe.paper_epochs),
        lr=optimizer.auto_lr(recipe.batch_size, epochs) if recipe.lr == "auto" else float(recipe.lr),
        weight_decay=optimizer.weight_decay if recipe.weight_decay == "auto" else float(recipe.weight_decay),
        seconds_asked=amount if unit == "s" else None,
    )
