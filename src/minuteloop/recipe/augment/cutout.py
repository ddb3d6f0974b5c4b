"""Cutout."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import integer, number


@dataclass
class Cutout:
    """Sets a square within each image to the mean color, at a random position (DeVries 2017; Page 2018: 8 pixels)."""

    length: int = integer(8, 0, 1024, "side of the square", "pixels")
    prob: float = number(1.0, 0, 1, "probability that an image is cut")
    stage: ClassVar[str] = "normalized"
    strengthens: ClassVar[str] = "prob"

    def __call__(self, images, targets):
        """Cut out of images [N,3,H,W], normalized to mean 0; the targets [N,K] stay."""
        import torch

        from minuteloop.recipe.augment.ops.boxes import outside_random_span

        n, _, height, width = images.shape
        rows, columns = (outside_random_span(n, self.length, size, images.device) for size in (height, width))
        is_kept = rows[:, None, :, None] | columns[:, None, None, :]
        if self.prob < 1:
            is_kept |= torch.rand(n, 1, 1, 1, device=images.device) >= self.prob
        return images * is_kept, targets
