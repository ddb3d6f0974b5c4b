"""Horizontal flip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.schema import number


@dataclass
class Flip:
    """Mirrors each image left to right with probability `prob`."""

    prob: float = number(0.5, 0, 1, "a probability")
    stage: ClassVar[str] = "pixels"

    def __call__(self, images, targets):
        """images [N,3,H,W], targets [N,K] -> the same shapes."""
        import torch

        flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < self.prob
        return torch.where(flipped, images.flip(3), images), targets
