"""TrivialAugment."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from minuteloop.recipe.augment.rand_augment import rgb
from minuteloop.validation import number


@dataclass
class TrivialAugment:
    """One operation for each image, of a set of 14, with a magnitude drawn evenly from 31 (Mueller 2021, wide space).

    Geometric operations take the nearest pixel, as in torchvision's TrivialAugmentWide. The paper's `prob` is 1.
    """

    prob: float = number(1.0, 0, 1, "probability that an image draws an operation")
    fill: list[int] = rgb([0, 0, 0], "color outside the image; black by default")
    stage: ClassVar[str] = "pixels"
    strengthens: ClassVar[str] = "prob"

    def __call__(self, images, targets):
        """Augment uint8 images [N,3,H,W]; the targets [N,K] stay."""
        from minuteloop.recipe.augment.ops import trivial_augment_ops as ops
        from minuteloop.recipe.augment.ops.subsets import apply_to_subsets, draw_subsets

        operations = [*ops.TONES.values(), *(partial(self._warp, warp) for warp in ops.WARPS.values())]
        rows, sizes = draw_subsets(len(images), self.prob / ops.NUM_OPS, [1] * len(operations), images.device)
        magnitudes = ops.draw_magnitudes(len(rows), images.device)
        return apply_to_subsets(images, rows, sizes, operations, *magnitudes), targets

    def _warp(self, warp, images, magnitude, signed):
        return warp(images, signed, "nearest", self.fill)
