"""Padded random crop."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import choice, integer


@dataclass
class Crop:
    """Pads each image and crops it to its size at a random position (DeiT, datasets.py: padding 4 at 32 pixels)."""

    padding: int = integer(4, 0, 31, "padding on each side", "pixels")
    fill: str = choice("black", "reflect", help="what the padding holds")
    stage: ClassVar[str] = "pixels"

    def __call__(self, images, targets):
        """Crop images [N,3,H,W]; the targets [N,K] stay."""
        import torch

        from minuteloop.recipe.augment.ops.geometric import gather_windows

        n, channels, height, width = images.shape
        mode = {"black": "constant", "reflect": "reflect"}[self.fill]
        padded = torch.nn.functional.pad(images, [self.padding] * 4, mode=mode).flatten()
        padded_height, padded_width = height + 2 * self.padding, width + 2 * self.padding
        left, top = torch.randint(2 * self.padding + 1, (2, n, 1, 1), device=images.device)
        planes = torch.arange(n * channels, device=images.device).view(n, channels, 1) * padded_height
        lines = planes + top + torch.arange(height, device=images.device)  # [N,3,H]
        return gather_windows(padded, (lines * padded_width + left).flatten(), width).view_as(images), targets


@dataclass
class Translate(Crop):
    """Shifts each image by up to `padding` pixels and fills in its reflection (Jordan 2024, released code)."""

    padding: int = integer(2, 0, 31, "largest shift in each direction", "pixels")
    fill: str = choice("reflect", "black", help="what the shift leaves at the border")
