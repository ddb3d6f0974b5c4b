"""TrivialAugment."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from minuteloop.recipe import image_ops as ops
from minuteloop.recipe.strata import put, strata, take
from minuteloop.schema import ConfigError, number

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
# operations that share a part of the batch, each with its amount at a signed magnitude: pixels a pixel, pixels,
# degrees; torchvision's translations say where a pixel goes, `warp`'s where it comes from
WARPS = (
    {"shear_x": lambda signed: signed * 0.033, "translate_x": lambda signed: -(signed * 32 / 30).trunc()},
    {"shear_y": lambda signed: signed * 0.033, "translate_y": lambda signed: -(signed * 32 / 30).trunc()},
    {"rotate": lambda signed: signed * 4.5},
)
NUM_OPS = 1 + len(TONES) + sum(map(len, WARPS))  # with the identity


def _factor(signed):
    return (1 + 0.033 * signed.double()).float()


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

        operations = [*TONES.values(), *(partial(self._warp, warp) for warp in WARPS)]
        weights = [1] * len(TONES) + [len(warp) for warp in WARPS]
        rows, sizes = strata(len(images), self.prob / NUM_OPS, weights, images.device)
        magnitude = torch.randint(BINS, (len(rows),), device=images.device).float()
        signed = magnitude * torch.randint(2, magnitude.shape, device=images.device).mul_(2).sub_(1)
        parts = zip(operations, *(drawn.split(sizes) for drawn in (take(images, rows), magnitude, signed)), strict=True)
        return put(images, rows, torch.cat([operation(*part) for operation, *part in parts])), targets

    def _warp(self, amounts, images, magnitude, signed):
        return ops.one_warp(images, "nearest", self.fill, {name: at(signed) for name, at in amounts.items()})
