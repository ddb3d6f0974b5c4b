"""RandAugment."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from minuteloop.validation import choice, custom, integer, number


def rgb(default: list[int], help: str) -> Any:
    """Declare a field that holds a color: red, green, blue."""
    return custom(default, _is_rgb, "must be three numbers in [0, 255]", help)


def _is_rgb(values: list[int]) -> bool:
    return len(values) == 3 and all(0 <= value <= 255 for value in values)


@dataclass
class RandAugment:
    """Random operations, drawn for each image from a set of 15 (Cubuk 2020); timm's `rand-m9-mstd0.5-inc1`, as in DeiT.

    `num_ops` times, each image draws one operation, which applies with probability `prob`. Its level is normal around
    `magnitude`, clipped to [0, 10], with a random sign. Level 10 posterizes to 0 bits, which is black, as in timm with
    Pillow < 13.
    """

    num_ops: int = integer(2, 1, 100, "operations that each image draws")
    magnitude: float = number(9.0, 0, 10, "mean level of the operations")
    magnitude_std: float = number(0.5, 0, 100, "std of the level")
    prob: float = number(0.5, 0, 1, "probability that a drawn operation applies")
    # timm's default is random, DeiT's main.py sets bicubic
    interpolation: str = choice("random", "bilinear", "bicubic", help="interpolation of the geometric operations")
    fill: list[int] = rgb([124, 116, 104], "color outside the image; ImageNet's mean by default")
    stage: ClassVar[str] = "pixels"
    strengthens: ClassVar[str] = "prob"

    def __call__(self, images, targets):
        """Augment uint8 images [N,3,H,W]; the targets [N,K] stay."""
        from minuteloop.recipe.augment.ops import rand_augment_ops as ops
        from minuteloop.recipe.augment.ops.subsets import apply_to_subsets, draw_subsets

        modes = ("bilinear", "bicubic") if self.interpolation == "random" else (self.interpolation,)
        operations = [*ops.TONES.values()]
        operations += [partial(self._warp, warp, mode) for warp in ops.WARPS.values() for mode in modes]
        weights = [2] * len(ops.TONES) + [2 // len(modes)] * (len(ops.WARPS) * len(modes))
        for _ in range(self.num_ops):
            rows, sizes = draw_subsets(len(images), self.prob / ops.NUM_OPS / 2, weights, images.device)
            levels = ops.draw_levels(len(rows), self.magnitude, self.magnitude_std, images.device)
            images = apply_to_subsets(images, rows, sizes, operations, *levels)
        return images, targets

    def _warp(self, warp, interpolation, images, level, signed):
        return warp(images, signed, interpolation, self.fill)
