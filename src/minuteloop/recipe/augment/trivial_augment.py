"""TrivialAugment."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from minuteloop.recipe.augment import image_ops as ops
from minuteloop.recipe.augment.subsets import put, strata, take
from minuteloop.validation import ConfigError, number

BINS = 31  # magnitudes 0..30
# name -> operation(images, magnitude, magnitude with its sign); torchvision's wide ranges
TONES = {
    "Brightness": lambda images, magnitude, signed: ops.brightness(images, _factor(signed)),
    "Color": lambda images, magnitude, signed: ops.color(images, _factor(signed)),
    "Contrast": lambda images, magnitude, signed: ops.contrast(images, _factor(signed)),
    "Sharpness": lambda images, magnitude, signed: ops.sharpness(images, _factor(signed)),
    "Posterize": lambda images, magnitude, signed: ops.posterize(images, 8 - (magnitude / 5).round().int()),
    "Solarize": lambda images, magnitude, signed: ops.solarize(images, 255 - magnitude * 8.5),
    "AutoContrast": lambda images, magnitude, signed: ops.auto_contrast(images),
    "Equalize": lambda images, magnitude, signed: ops.equalize(images),
}
# name -> operation(images, magnitude with its sign, interpolation, fill)
WARPS = {
    "Rotate": lambda images, signed, *how: ops.rotate(images, 4.5 * signed, *how),
    "ShearX": lambda images, signed, *how: ops.slide_x(images, ops.shear(0.033 * signed, images.shape[2]), *how),
    "ShearY": lambda images, signed, *how: ops.slide_y(images, ops.shear(0.033 * signed, images.shape[3]), *how),
    "TranslateX": lambda images, signed, *how: ops.slide_x(images, _pixels(signed), *how),
    "TranslateY": lambda images, signed, *how: ops.slide_y(images, _pixels(signed), *how),
}
NUM_OPS = 1 + len(TONES) + len(WARPS)  # with the identity


def _factor(signed):
    return (1 + 0.033 * signed.double()).float()


def _pixels(signed):
    """torchvision says where a pixel goes, `slide_x` where it comes from."""
    return -(signed * 32 / 30).trunc()[:, None]


@dataclass
class TrivialAugment:
    """One operation of a set of 14 for each image, at a magnitude drawn evenly from 31 (Mueller 2021, the wide space).

    Warps take the nearest pixel and leave `fill` outside, as torchvision's TrivialAugmentWide does. `prob` is the share
    of images that draw at all: 1 in the paper.
    """

    prob: float = number(1.0, 0, 1, "a probability")
    fill: list[int] = field(default_factory=lambda: [0, 0, 0])
    stage: ClassVar[str] = "pixels"
    strengthens: ClassVar[str] = "prob"

    def __post_init__(self) -> None:
        if len(self.fill) != 3 or not all(0 <= value <= 255 for value in self.fill):
            raise ConfigError(f"fill={self.fill}, not three values in [0, 255]")

    def __call__(self, images, targets):
        """uint8 images [N,3,H,W]; targets [N,K] pass through."""
        import torch

        operations = [*TONES.values(), *(partial(self._warp, warp) for warp in WARPS.values())]
        rows, sizes = strata(len(images), self.prob / NUM_OPS, [1] * len(operations), images.device)
        magnitude = torch.randint(BINS, (len(rows),), device=images.device).float()
        signed = magnitude * torch.randint(2, magnitude.shape, device=images.device).mul_(2).sub_(1)
        parts = zip(operations, *(drawn.split(sizes) for drawn in (take(images, rows), magnitude, signed)), strict=True)
        return put(images, rows, *(operation(*part) for operation, *part in parts)), targets

    def _warp(self, warp, images, magnitude, signed):
        return warp(images, signed, "nearest", self.fill)
