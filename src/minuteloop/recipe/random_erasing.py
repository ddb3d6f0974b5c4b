"""Random erasing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

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

        n, channels, height, width = images.shape
        area = torch.empty(n, ATTEMPTS, device=images.device).uniform_(self.min_area, self.max_area) * height * width
        limit = -math.log(self.min_aspect)
        aspect = torch.empty_like(area).uniform_(-limit, limit).exp()
        rows = (area * aspect).sqrt().round()
        columns = (area / aspect).sqrt().round()
        fits = (rows < height) & (columns < width)
        first = fits.int().argmax(1, keepdim=True)
        rows, columns, fits = (drawn.gather(1, first) for drawn in (rows, columns, fits))  # [N,1]
        top, left = torch.rand(2, n, 1, device=images.device)
        top = (top * (height - rows + 1)).floor()
        left = (left * (width - columns + 1)).floor()
        y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
        inside_rows = (y >= top) & (y < top + rows)
        inside_columns = (x >= left) & (x < left + columns)
        erased = fits & (torch.rand(n, 1, device=images.device) < self.prob)
        box = inside_rows[:, None, :, None] & inside_columns[:, None, None, :] & erased[:, :, None, None]
        # drawn contiguous: on a CPU normal numbers for a channels_last tensor come one by one, nine times slower
        noise = torch.randn(n, height, width, channels, dtype=images.dtype, device=images.device).permute(0, 3, 1, 2)
        return torch.where(box, noise, images), targets
