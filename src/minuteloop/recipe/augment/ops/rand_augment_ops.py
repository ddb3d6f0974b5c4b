"""RandAugment's operations, and the levels they map to arguments (timm's `increasing` transforms)."""

import torch
from torch import Tensor

from minuteloop.recipe.augment.ops import geometric, tone


def _factor(signed: Tensor) -> Tensor:
    return (1 + 0.09 * signed.double()).clamp_(min=0.1).float()


# name -> operation(images, level in [0, 10], level with a random sign)
TONES = {
    "AutoContrast": lambda images, level, signed: tone.auto_contrast(images),
    "Equalize": lambda images, level, signed: tone.equalize(images),
    "Invert": lambda images, level, signed: tone.invert(images),
    "PosterizeIncreasing": lambda images, level, signed: tone.posterize(images, 4 - (level * 0.4).int()),
    "SolarizeIncreasing": lambda images, level, signed: tone.solarize(images, 256 - (level * 25.6).int()),
    "SolarizeAdd": lambda images, level, signed: tone.solarize_add(images, (level * 11).int()),
    "ColorIncreasing": lambda images, level, signed: tone.color(images, _factor(signed)),
    "ContrastIncreasing": lambda images, level, signed: tone.contrast(images, _factor(signed)),
    "BrightnessIncreasing": lambda images, level, signed: tone.brightness(images, _factor(signed)),
    "SharpnessIncreasing": lambda images, level, signed: tone.sharpness(images, _factor(signed)),
}
# name -> operation(images, level with a random sign, interpolation, fill)
WARPS = {
    "Rotate": lambda images, signed, *args: geometric.rotate(images, 3 * signed, *args),
    "ShearX": lambda images, signed, *args: geometric.shear_x(images, 0.03 * signed, *args),
    "ShearY": lambda images, signed, *args: geometric.shear_y(images, 0.03 * signed, *args),
    "TranslateXRel": lambda images, signed, *args: geometric.slide_x(
        images, (0.045 * images.shape[3] * signed)[:, None], *args
    ),
    "TranslateYRel": lambda images, signed, *args: geometric.slide_y(
        images, (0.045 * images.shape[2] * signed)[:, None], *args
    ),
}
NUM_OPS = len(TONES) + len(WARPS)


def draw_levels(n: int, mean: float, std: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw `n` normal levels, clipped to [0, 10]: (levels, the same with random signs)."""
    level = torch.randn(n, device=device).mul_(std).add_(mean)
    return level, level.clamp_(0, 10) * torch.randint(2, level.shape, device=device).mul_(2).sub_(1)
