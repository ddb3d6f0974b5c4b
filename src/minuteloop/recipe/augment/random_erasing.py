"""Random erasing."""

import math
from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import ConfigError, number


@dataclass
class RandomErasing:
    """Fills a random box of an image with normal noise, pixel by pixel (Zhong 2020; timm's mode 'pixel', count 1).

    Area and log aspect ratio are uniform. An image for which none of 10 drawn boxes fits stays unchanged.
    """

    prob: float = number(0.25, 0, 1, "probability that an image is erased")
    min_area: float = number(0.02, 0, 1, "smallest area of the box", "fraction of the image")
    max_area: float = number(1 / 3, 0, 1, "largest area of the box", "fraction of the image")
    min_aspect: float = number(0.3, 0.01, 1, "smallest height / width of the box; the largest is 1 / min_aspect")
    stage: ClassVar[str] = "normalized"
    strengthens: ClassVar[str] = "prob"

    def __post_init__(self) -> None:
        if self.min_area > self.max_area:
            raise ConfigError(f"min_area={self.min_area}: must be <= max_area ({self.max_area})")

    def __call__(self, images, targets):
        """Erase in images [N,3,H,W], normalized to std 1; the targets [N,K] stay."""
        import torch

        from minuteloop.recipe.augment.ops.boxes import draw_box_sizes, index_in_random_span
        from minuteloop.recipe.augment.ops.subsets import draw_subsets, gather_rows, scatter_rows

        rows, _ = draw_subsets(len(images), self.prob, [1], images.device)
        chosen, (height, width) = gather_rows(images, rows), images.shape[2:]
        area = self.min_area, self.max_area
        heights, widths = draw_box_sizes(len(rows), height, width, area, self.min_aspect, images.device)
        row = index_in_random_span(heights, height)[:, :, None]  # [n,H,1]
        column = index_in_random_span(widths, width)[:, None]  # [n,1,W]
        box = ((row >= 0) & (column >= 0))[:, None]
        # on CPU, normal draws cost more than all the rest: draw only as many as the largest box has pixels
        noise = torch.randn(*chosen.shape[:2], self._max_pixels(height, width), device=images.device)
        index = (row * widths[:, :, None] + column).clamp_(0, noise.shape[2] - 1).long().flatten(1)[:, None]
        noise = noise.gather(2, index.expand(-1, chosen.shape[1], -1)).view(chosen.shape)
        return scatter_rows(images, rows, chosen.lerp(noise, box.float())), targets

    def _max_pixels(self, height: int, width: int) -> int:
        """Return a bound on the pixels of a box; rounding its sides adds most where they differ most."""
        area = self.max_area * height * width
        sides = math.sqrt(area * self.min_aspect) + math.sqrt(area / self.min_aspect)
        return min(int(area + sides / 2 + 0.25), height * width)
