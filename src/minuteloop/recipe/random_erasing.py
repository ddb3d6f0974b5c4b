"""Random erasing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from minuteloop.recipe.strata import put, strata, take
from minuteloop.schema import ConfigError, number

ATTEMPTS = 10  # boxes drawn an image; the first that fits is used, as timm does


@dataclass
class RandomErasing:
    """Fills one box of an image with normal noise, pixel by pixel (Zhong 2020; timm's mode 'pixel', count 1).

    Area and log aspect are uniform; an image for which no drawn box fits is left as it is.
    """

    prob: float = number(0.25, 0, 1, "a probability")
    min_area: float = number(0.02, 0, 1, "a share of the image")
    max_area: float = number(1 / 3, 0, 1, "a share of the image")
    min_aspect: float = number(0.3, 0.01, 1, "height / width of the narrowest box, at most 1")
    stage: ClassVar[str] = "normalized"
    strengthens: ClassVar[str] = "prob"

    def __post_init__(self) -> None:
        if self.min_area > self.max_area:
            raise ConfigError(f"min_area={self.min_area} is above max_area={self.max_area}")

    def __call__(self, images, targets):
        """images [N,3,H,W], normalised to unit variance; targets [N,K] pass through."""
        import torch

        rows, _ = strata(len(images), self.prob, [1], images.device)
        chosen, (height, width) = take(images, rows), images.shape[2:]
        area = torch.empty(len(rows), ATTEMPTS, device=images.device).uniform_(self.min_area, self.max_area)
        area = area * height * width
        limit = -math.log(self.min_aspect)
        aspect = torch.empty_like(area).uniform_(-limit, limit).exp()
        heights = (area * aspect).sqrt().round()
        widths = (area / aspect).sqrt().round()
        fits = (heights < height) & (widths < width)
        first = fits.int().argmax(1, keepdim=True)
        heights, widths, fits = (drawn.gather(1, first) for drawn in (heights, widths, fits))  # [n,1]
        box = (_span(heights, height) * fits)[:, None, :, None] * _span(widths, width)[:, None, None, :]
        noise = torch.randn(chosen.shape, device=images.device)  # drawn contiguous: on a CPU many times faster
        return put(images, rows, chosen.lerp(noise, box)), targets


def _span(length, side):
    """float [n,side]: 1 where pixels lie in a run of `length` [n,1] at an even place."""
    import torch

    start = (torch.rand_like(length) * (side - length + 1)).floor()
    pixel = torch.arange(side, device=length.device)
    return ((pixel >= start) & (pixel < start + length)).float()
