"""3-Augment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from minuteloop.recipe.augment import image_ops as ops
from minuteloop.recipe.augment.subsets import put, strata, take
from minuteloop.validation import ConfigError, number


@dataclass
class ThreeAugment:
    """Each image is made grey, solarized from 128 on or blurred, one of them drawn evenly (Touvron 2022, sec. 3).

    The blur is Gaussian, its deviation even in [`least_sigma`, `most_sigma`] (released code).
    """

    prob: float = number(1.0, 0, 1, "a probability")
    least_sigma: float = number(0.1, 0.01, 100, "a number of pixels")
    most_sigma: float = number(2.0, 0.01, 100, "a number of pixels")
    stage: ClassVar[str] = "pixels"
    strengthens: ClassVar[str] = "prob"

    def __post_init__(self) -> None:
        if self.least_sigma > self.most_sigma:
            raise ConfigError(f"least_sigma={self.least_sigma} is above most_sigma={self.most_sigma}")

    def __call__(self, images, targets):
        """uint8 images [N,3,H,W]; targets [N,K] pass through."""
        import torch

        rows, sizes = strata(len(images), self.prob / 3, [1, 1, 1], images.device)
        grey, solarized, blurred = take(images, rows).split(sizes)
        grey = ops.gray(grey).byte().expand_as(grey)
        solarized = ops.solarize(solarized, torch.full((len(solarized),), 128, device=images.device))
        sigma = torch.empty(len(blurred), device=images.device).uniform_(self.least_sigma, self.most_sigma)
        blurred = ops.blur(blurred, sigma, reach=math.ceil(3 * self.most_sigma))
        return put(images, rows, grey, solarized, blurred), targets
