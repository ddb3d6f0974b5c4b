"""TrivialAugment's operations, and the magnitudes they map to arguments (torchvision's wide ranges)."""

import torch
from torch import Tensor

from minuteloop.recipe.augment.ops import geometric, tone

BINS = 31  # magnitudes 0..30


def _factor(signed: Tensor) -> Tensor:
    return (1 + 0.033 * signed.double()).float()


def _distance(signed: Tensor) -> Tensor:
    """Return pixels [n,1]; torchvision's sign gives where a pixel moves to, `slide_x` takes where it comes from."""
    return -(signed * 32 / 30).trunc()[:, None]


# name -> operation(images, magnitude, magnitude with a random sign)
TONES = {
    "Brightness": lambda images, magnitude, signed: tone.brightness(images, _factor(signed)),
    "Color": lambda images, magnitude, signed: tone.color(images, _factor(signed)),
    "Contrast": lambda images, magnitude, signed: tone.contrast(images, _factor(signed)),
    "Sharpness": lambda images, magnitude, signed: tone.sharpness(images, _factor(signed)),
    "Posterize": lambda images, magnitude, signed: tone.posterize(images, 8 - (magnitude / 5).round().int()),
    "Solarize": lambda images, magnitude, signed: tone.solarize(images, 255 - magnitude * 8.5),
    "AutoContrast": lambda images, magnitude, signed: tone.auto_contrast(images),
    "Equalize": lambda images, magnitude, signed: tone.equalize(images),
}
# name -> operation(images, magnitude with a random sign, interpolation, fill)
WARPS = {
    "Rotate": lambda images, signed, *args: geometric.rotate(images, 4.5 * signed, *args),
    "ShearX": lambda images, signed, *args: geometric.shear_x(images, 0.033 * signed, *args),
    "ShearY": lambda images, signed, *args: geometric.shear_y(images, 0.033 * signed, *args),
    "TranslateX": lambda images, signed, *args: geometric.slide_x(images, _distance(signed), *args),
    "TranslateY": lambda images, signed, *args: geometric.slide_y(images, _distance(signed), *args),
}
NUM_OPS = 1 + len(TONES) + len(WARPS)  # with the identity


def draw_magnitudes(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw `n` magnitudes evenly from the 31 bins: (magnitudes, the same with random signs)."""
    magnitude = torch.randint(BINS, (n,), device=device).float()
    return magnitude, magnitude * torch.randint(2, magnitude.shape, device=device).mul_(2).sub_(1)
