"""Horizontal flip."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class Flip:
    """Mirrors each image left to right with probability `prob`."""

    prob: float = number(0.5, 0, 1, "probability that an image is mirrored")
    stage: ClassVar[str] = "pixels"

    def __call__(self, images, targets):
        """Flip images [N,3,H,W]; the targets [N,K] stay."""
        from minuteloop.recipe.augment.ops.subsets import draw_subsets, gather_rows, scatter_rows

        rows, _ = draw_subsets(len(images), self.prob, [1], images.device)
        return scatter_rows(images, rows, gather_rows(images, rows).flip(3)), targets
