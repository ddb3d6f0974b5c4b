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

`strengthens` names the field that `recipe.strength` multiplies. `starts` lists the fractions of the run at which an
ingredient changes the cost of a step: each begins a phase, whose rate is measured separately.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STAGES = ("source", "pixels", "normalized", "targets", "mixed")


@dataclass(frozen=True)
class Ingredients:
    """All ingredients of a recipe; `config.instantiate.ingredients` builds it from a config."""

    optimizer: Callable
    schedule: Callable[[float, float], float]
    loss: Callable
    transforms: tuple[Any, ...] = ()
    regularizers: tuple[Any, ...] = ()
    callbacks: tuple[Any, ...] = ()
    tta: Callable | None = None
    progressive: Any = None

    def at(self, stage: str) -> list[Any]:
        """Return the batch transforms of one of STAGES, in the recipe's order."""
        return [transform for transform in self.transforms if transform.stage == stage]

    def at_strength(self, strength: float) -> Ingredients:
        """Return a copy with the `strengthens` fields multiplied by `strength`, without transforms left at 0."""
        transforms = tuple(_scale(transform, strength) for transform in self.transforms)
        return dataclasses.replace(
            self,
            transforms=tuple(transform for transform in transforms if _strength_value(transform) != 0),
            regularizers=tuple(_scale(regularizer, strength) for regularizer in self.regularizers),
        )

    @property
    def starts(self) -> tuple[float, ...]:
        """Return where the phases of the run start, as fractions of the run; the first is 0."""
        starts = {0.0}
        for ingredient in (self.progressive, *self.callbacks):
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


def _strength_value(ingredient: Any) -> float | None:
    return getattr(ingredient, getattr(ingredient, "strengthens", ""), None)


def _scale(ingredient: Any, strength: float) -> Any:
    value = _strength_value(ingredient)
    if value is None:
        return ingredient
    return dataclasses.replace(ingredient, **{ingredient.strengthens: value * strength})
