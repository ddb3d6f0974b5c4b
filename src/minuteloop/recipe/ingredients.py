"""The ingredients of a training recipe.

Each ingredient is a dataclass whose fields are its config keys, one file per ingredient. These files load without
torch, so that config errors appear before torch is imported; what needs torch is imported when the ingredient is used,
from a module beside it (`callbacks/ema.py` has the fields, `callbacks/ema_callback.py` the Lightning callback).

A batch transform declares its `stage`. The stages run in this order, the transforms of a stage in the recipe's:

    source      (uint8 images, epoch, seed) -> uint8 images       alternating flip
    pixels      (uint8 images, soft targets) -> the same          flip, crop
    normalized  (float images, soft targets) -> the same          random erasing
    targets     soft targets -> soft targets                      label smoothing
    mixed       (float images, soft targets) -> the same          mixup, CutMix: one of them for each sample

`strengthens` names the field that `recipe.strength` multiplies. strength=auto leaves it at 0 up to `off_until` planned
epochs and at full strength from `full_from` on, where that is before the recipe's paper_epochs (measured:
docs/minute.md). `needs` names what a net must have for an ingredient to act on
it: drop_path, dropout, batch_norm or torch_batch_norm. `starts` lists the fractions of the run at which an ingredient
changes the cost of a step: each begins a phase, whose rate is measured separately.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

OFF_UNTIL = 30.0  # epochs, of an ingredient that does not say

STAGES = ("source", "pixels", "normalized", "targets", "mixed")


@dataclass(frozen=True)
class Ingredients:
    """All ingredients of a recipe, by name; `config.instantiate.ingredients` builds it from a config."""

    optimizer: Callable
    schedule: Callable[[float, float], float]
    loss: Callable
    transforms: dict[str, Any] = field(default_factory=dict)
    regularizers: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    tta: Callable | None = None
    progressive: Any = None

    def at(self, stage: str) -> list[Any]:
        """Return the batch transforms of one of STAGES, in the recipe's order."""
        return [transform for transform in self.transforms.values() if transform.stage == stage]

    def strengths(self, asked: Any, named: Collection[str], epochs: float, paper_epochs: float) -> dict[str, float]:
        """Return the factor on each ingredient that `strengthens` a field, by name.

        `asked` is recipe.strength: a number, a factor for some names, or auto, which is `auto_strength` for the planned
        `epochs`. Ingredients in `named` are at full strength, unless `asked` has a factor for them.
        """
        factors = {}
        for name, ingredient in (self.transforms | self.regularizers).items():
            if not strength_value(ingredient):
                continue
            if isinstance(asked, Mapping) and name in asked:
                factors[name] = float(asked[name])
            elif name in named:
                factors[name] = 1.0
            elif isinstance(asked, int | float):
                factors[name] = float(asked)
            else:
                full_from = min(getattr(ingredient, "full_from", paper_epochs), paper_epochs)
                factors[name] = auto_strength(epochs, full_from, getattr(ingredient, "off_until", OFF_UNTIL))
        return factors

    def at_strength(self, strength: float | Mapping[str, float]) -> Ingredients:
        """Return a copy with the `strengthens` fields multiplied by `strength`, without transforms left at 0.

        `strength` is one factor for all, or one for each name; names that are left out keep their strength.
        """

        def scale(name: str, ingredient: Any) -> Any:
            value = strength_value(ingredient)
            factor = strength.get(name, 1.0) if isinstance(strength, Mapping) else strength
            return ingredient if value is None else replace(ingredient, **{ingredient.strengthens: value * factor})

        transforms = {name: scale(name, transform) for name, transform in self.transforms.items()}
        return replace(
            self,
            transforms={name: transform for name, transform in transforms.items() if strength_value(transform) != 0},
            regularizers={name: scale(name, regularizer) for name, regularizer in self.regularizers.items()},
        )

    @property
    def starts(self) -> tuple[float, ...]:
        """Return where the phases of the run start, as fractions of the run; the first is 0."""
        starts = {0.0}
        for ingredient in (self.progressive, *self.callbacks.values()):
            starts.update(getattr(ingredient, "starts", ()))
        return tuple(sorted(start for start in starts if start < 1))

    def at_phase(self, start: float, image_size: int) -> tuple[int, Ingredients]:
        """Return the training image size and the ingredients of the phase that starts at `start`.

        `image_size` is the dataset's, in pixels.
        """
        if self.progressive is None:
            return image_size, self
        phase = self.progressive.phase_at(start, image_size)
        return phase.image_size, self.at_strength(phase.strength)


def strength_value(ingredient: Any) -> float | None:
    """Return the field that recipe.strength multiplies, or None for an ingredient without one."""
    return getattr(ingredient, getattr(ingredient, "strengthens", ""), None)


def auto_strength(epochs: float, full_from: float, off_until: float) -> float:
    """Return the strength that fits the planned `epochs`: 1 from `full_from` on, 0 up to `off_until`.

    Between them it is a line over log(epochs), in steps of 0.05. `off_until` counts as at most a third of `full_from`.
    """
    off_until = min(off_until, full_from / 3)
    if epochs >= full_from or not off_until:
        return 1.0
    if epochs <= off_until:
        return 0.0
    start, now, end = (math.log(length) for length in (off_until, epochs, full_from))
    return math.floor(20 * (now - start) / (end - start)) / 20
