"""Horizontal flip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.recipe.augment.subsets import put, strata, take
from minuteloop.validation import number


@dataclass
class Flip:
    """Mirrors each image left to right with probability `prob`."""

    prob: float = number(0.5, 0, 1, "a probability")
    stage: ClassVar[str] = "pixels"

    def __call__(self, images, targets):
        """images [N,3,H,W], targets [N,K] -> the same shapes."""
        rows, _ = strata(len(images), self.prob, [1], images.device)
        return put(images, rows, take(images, rows).flip(3)), targets
