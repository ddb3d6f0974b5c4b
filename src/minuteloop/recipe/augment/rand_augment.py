"""RandAugment."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from minuteloop.recipe.augment import image_ops as ops
from minuteloop.recipe.augment.subsets import put, strata, take
from minuteloop.validation import ConfigError, choice, integer, number

# name -> operation(images, level in [0, 10], level with its sign)
TONES = {
    "AutoContrast": lambda images, level, signed: ops.auto_contrast(images),
    "Equalize": lambda images, level, signed: ops.equalize(images),
    "Invert": lambda images, level, signed: ops.invert(images),
    "PosterizeIncreasing": lambda images, level, signed: ops.posterize(images, 4 - (level * 0.4).int()),
    "SolarizeIncreasing": lambda images, level, signed: ops.solarize(images, 256 - (level * 25.6).int()),
    "SolarizeAdd": lambda images, level, signed: ops.solarize_add(images, (level * 11).int()),
    "ColorIncreasing": lambda images, level, signed: ops.color(images, _factor(signed)),
    "ContrastIncreasing": lambda images, level, signed: ops.contrast(images, _factor(signed)),
    "BrightnessIncreasing": lambda images, level, signed: ops.brightness(images, _factor(signed)),
    "SharpnessIncreasing": lambda images, level, signed: ops.sharpness(images, _factor(signed)),
}
# name -> operation(images, level with its sign, interpolation, fill)
WARPS = {
    "Rotate": lambda images, signed, *how: ops.rotate(images, 3 * signed, *how),
    "ShearX": lambda images, signed, *how: ops.slide_x(images, ops.shear(0.03 * signed, images.shape[2]), *how),
    "ShearY": lambda images, signed, *how: ops.slide_y(images, ops.shear(0.03 * signed, images.shape[3]), *how),
    "TranslateXRel": lambda images, signed, *how: ops.slide_x(
        images, (0.045 * images.shape[3] * signed)[:, None], *how
    ),
    "TranslateYRel": lambda images, signed, *how: ops.slide_y(
        images, (0.045 * images.shape[2] * signed)[:, None], *how
    ),
}
NUM_OPS = len(TONES) + len(WARPS)


def _factor(signed):
    return (1 + 0.09 * signed.double()).clamp_(min=0.1).float()


@dataclass
class RandAugment:
    """Operations drawn for each image from a set of 15 (Cubuk 2020), as timm's `rand-m9-mstd0.5-inc1` that DeiT uses.

    `num_ops` times, one operation drawn evenly is applied with probability `prob`, its level normal around
    `magnitude` and cut to [0, 10], its direction even. `fill` is the colour beyond an image's border: ImageNet's mean
    in DeiT. A level of 10 posterizes to 0 bits, which is black, as in timm with a Pillow before 13.
    """

    num_ops: int = integer(2, 1, 100, "a number of operations")
    magnitude: float = number(9.0, 0, 10, "a level in [0, 10]")
    magnitude_std: float = number(0.5, 0, 100, "a number of levels")
    prob: float = number(0.5, 0, 1, "a probability")
    # of the warps; random draws bilinear or bicubic for each, timm's default. DeiT's main.py sets bicubic
    interpolation: str = choice("random", "bilinear", "bicubic", help="")
    fill: list[int] = field(default_factory=lambda: [124, 116, 104])
    stage: ClassVar[str] = "pixels"
    strengthens: ClassVar[str] = "prob"

    def __post_init__(self) -> None:
        if len(self.fill) != 3 or not all(0 <= value <= 255 for value in self.fill):
            raise ConfigError(f"fill={self.fill}, not three values in [0, 255]")

    def __call__(self, images, targets):
        """uint8 images [N,3,H,W]; targets [N,K] pass through."""
        import torch

        modes = ("bilinear", "bicubic") if self.interpolation == "random" else (self.interpolation,)
        operations = [*TONES.values(), *(partial(self._warp, warp, mode) for warp in WARPS.values() for mode in modes)]
        weights = [2] * len(TONES) + [2 // len(modes)] * (len(WARPS) * len(modes))
        for _ in range(self.num_ops):
            rows, sizes = strata(len(images), self.prob / NUM_OPS / 2, weights, images.device)
            level = torch.randn(len(rows), device=images.device).mul_(self.magnitude_std).add_(self.magnitude)
            signed = level.clamp_(0, 10) * torch.randint(2, level.shape, device=images.device).mul_(2).sub_(1)
            parts = zip(operations, *(drawn.split(sizes) for drawn in (take(images, rows), level, signed)), strict=True)
            images = put(images, rows, *(operation(*part) for operation, *part in parts))
        return images, targets

    def _warp(self, warp, interpolation, images, level, signed):
        return warp(images, signed, interpolation, self.fill)
