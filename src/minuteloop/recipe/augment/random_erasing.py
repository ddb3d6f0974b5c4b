"""Random erasing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from minuteloop.recipe.augment.subsets import put, strata, take
from minuteloop.validation import ConfigError, number

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
        down, across = _within(heights * fits, height)[:, :, None], _within(widths, width)[:, None]  # [n,H,1], [n,1,W]
        box = ((down >= 0) & (across >= 0))[:, None]
        # normal draws cost a CPU more than all the rest: only as many as the largest box has pixels
        noise = torch.randn(*chosen.shape[:2], self._largest(height, width), device=images.device)
        place = (down * widths[:, :, None] + across).clamp_(0, noise.shape[2] - 1).long().flatten(1)[:, None]
        noise = noise.gather(2, place.expand(-1, chosen.shape[1], -1)).view(chosen.shape)
        return put(images, rows, chosen.lerp(noise, box.float())), targets

    def _largest(self, height: int, width: int) -> int:
        """A bound of the pixels of a box: what rounding adds to its sides is most where they differ most."""
        area = self.max_area * height * width
        sides = math.sqrt(area * self.min_aspect) + math.sqrt(area / self.min_aspect)
        return min(int(area + sides / 2 + 0.25), height * width)


def _within(length, side):
    """float [n,side]: which pixel of a run of `length` [n,1] at an even place a pixel is; -1 outside."""
    import torch

    start = (torch.rand_like(length) * (side - length + 1)).floor()
    pixel = torch.arange(side, device=length.device) - start
    return torch.where(pixel < length, pixel, -1.0).clamp_(min=-1)
