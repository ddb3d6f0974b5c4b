"""Cutout."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import integer


@dataclass
class Cutout:
    """Sets a square within each image to the mean color, at a random position (DeVries 2017; Page 2018: 8 pixels)."""

    length: int = integer(8, 0, 1024, "side of the square", "pixels")
    stage: ClassVar[str] = "normalized"

    def __call__(self, images, targets):
        """Cut out of images [N,3,H,W], normalized to mean 0; the targets [N,K] stay."""
        from minuteloop.recipe.augment.ops.boxes import outside_random_span

        n, _, height, width = images.shape
        rows, columns = (outside_random_span(n, self.length, size, images.device) for size in (height, width))
        return images * (rows[:, None, :, None] | columns[:, None, None, :]), targets
