"""Ingredients of a training recipe, one file each: a dataclass whose fields are its config keys.

A batch transform says with `stage` where it belongs; within a stage the recipe's order holds:

    source      (uint8 images, epoch, seed) -> uint8 images       alternating flip
    pixels      (uint8 images, soft targets) -> the same          flip, crop
    normalized  (float images, soft targets) -> the same          random erasing
    targets     soft targets -> soft targets                      label smoothing
    mixed       (float images, soft targets) -> the same          mixup, cutmix: one of them for each sample

`strengthens` names the field of a regulariser that `recipe.strength` multiplies. `starts` are the shares of a run from
which on an ingredient makes steps cost more or less: a run's phases, whose rates are measured apart. torch is imported
inside methods, so that a misspelt key is reported before it loads.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STAGES = ("source", "pixels", "normalized", "targets", "mixed")


@dataclass(frozen=True)
class Ingredients:
    """What a recipe is made of; `build.ingredients` makes it from a config."""

    optimizer: Callable
    schedule: Callable[[float, float], float]
    loss: Callable
    transforms: tuple[Any, ...] = ()
    regularizers: tuple[Any, ...] = ()
    callbacks: tuple[Any, ...] = ()
    tta: Callable | None = None
    progressive: Any = None

    def at(self, stage: str) -> list[Any]:
        """The batch transforms of one of STAGES, in the recipe's order."""
        return [transform for transform in self.transforms if transform.stage == stage]

    def at_strength(self, strength: float) -> Ingredients:
        """A copy whose regularisers have their one field multiplied by `strength`; transforms left with 0 go."""
        transforms = tuple(_strengthened(transform, strength) for transform in self.transforms)
        return dataclasses.replace(
            self,
            transforms=tuple(transform for transform in transforms if _strength_field(transform) != 0),
            regularizers=tuple(_strengthened(regularizer, strength) for regularizer in self.regularizers),
        )

    @property
    def starts(self) -> tuple[float, ...]:
        """Where the run's phases begin, as shares of it, from 0 on."""
        starts = {0.0}.union(*(getattr(each, "starts", ()) for each in (self.progressive, *self.callbacks)))
        return tuple(sorted(start for start in starts if start < 1))

    def at_phase(self, start: float, side: int) -> tuple[int, Ingredients]:
        """Of the phase that begins at `start`: the side of its images, in pixels, of a dataset's `side`; the
        ingredients then."""
        if self.progressive is None:
            return side, self
        shown, factor = self.progressive.phase(bisect_right(self.progressive.starts, start) - 1, side)
        return shown, self.at_strength(factor)


def _strength_field(ingredient: Any) -> float | None:
    return getattr(ingredient, getattr(ingredient, "strengthens", ""), None)


def _strengthened(ingredient: Any, strength: float) -> Any:
    value = _strength_field(ingredient)
    return (
        ingredient if value is None else dataclasses.replace(ingredient, **{ingredient.strengthens: value * strength})
    )
