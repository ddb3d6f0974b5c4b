"""Padded random crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import choice, integer


@dataclass
class Crop:
    """Pads and cuts each image at its own place (DeiT, datasets.py: at 32 pixels, padding 4 with black)."""

    padding: int = integer(4, 0, 31, "a number of pixels")
    fill: str = choice("black", "reflect", help="")
    stage: ClassVar[str] = "pixels"

    def __call__(self, images, targets):
        """images [N,3,H,W], targets [N,K] -> the same shapes."""
        import torch

        n, channels, height, width = images.shape
        device, side = images.device, 2 * self.padding
        mode = {"black": "constant", "reflect": "reflect"}[self.fill]
        padded = torch.nn.functional.pad(images, [self.padding] * 4, mode=mode).flatten()
        across, down = width + side, height + side  # of a padded image
        left, top = torch.randint(side + 1, (2, n, 1, 1), device=device)
        planes = torch.arange(n * channels, device=device).view(n, channels, 1) * down
        lines = planes + top + torch.arange(height, device=device)
        # every run of `width` pixels as a row of a view whose rows overlap: one copy for each line of each crop
        runs = padded.as_strided((len(padded) - width + 1, width), (1, 1))
        return runs.index_select(0, (lines * across + left).flatten()).view_as(images), targets


@dataclass
class Translate(Crop):
    """Moves each image by up to `padding` pixels; what comes in is reflected (Jordan 2024, released code)."""

    padding: int = integer(2, 0, 31, "a number of pixels")
    fill: str = choice("reflect", "black", help="")
