"""3-Augment."""

import math
from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import ConfigError, number


@dataclass
class ThreeAugment:
    """Grayscale, solarization (from 128 on) or Gaussian blur, one of them for each image (Touvron 2022, sec. 3).

    The three are equally likely. The std of the blur is uniform in [`least_sigma`, `most_sigma`] (released code).
    """

    prob: float = number(1.0, 0, 1, "probability that an image is changed")
    least_sigma: float = number(0.1, 0.01, 100, "smallest std of the blur", "pixels")
    most_sigma: float = number(2.0, 0.01, 100, "largest std of the blur", "pixels")
    stage: ClassVar[str] = "pixels"
    strengthens: ClassVar[str] = "prob"

    def __post_init__(self) -> None:
        if self.least_sigma > self.most_sigma:
            raise ConfigError(f"least_sigma={self.least_sigma}: must be <= most_sigma ({self.most_sigma})")

    def __call__(self, images, targets):
        """Augment uint8 images [N,3,H,W]; the targets [N,K] stay."""
        import torch

        from minuteloop.recipe.augment.ops import tone
        from minuteloop.recipe.augment.ops.subsets import draw_subsets, gather_rows, scatter_rows

        rows, sizes = draw_subsets(len(images), self.prob / 3, [1, 1, 1], images.device)
        gray, solarized, blurred = gather_rows(images, rows).split(sizes)
        gray = tone.gray(gray).byte().expand_as(gray)
        solarized = tone.solarize(solarized, torch.full((len(solarized),), 128, device=images.device))
        sigma = torch.empty(len(blurred), device=images.device).uniform_(self.least_sigma, self.most_sigma)
        blurred = tone.blur(blurred, sigma, reach=math.ceil(3 * self.most_sigma))
        return scatter_rows(images, rows, gray, solarized, blurred), targets
