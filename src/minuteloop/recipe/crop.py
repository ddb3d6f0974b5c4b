"""Padded random crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.schema import number


@dataclass
class Crop:
    """Pads with black and cuts each image at its own place (DeiT, datasets.py: at 32 pixels, padding 4)."""

    padding: int = number(4, 0, 32, "a number of pixels", whole=True)
    stage: ClassVar[str] = "pixels"

    def __call__(self, images, targets):
        """images [N,3,H,W], targets [N,K] -> the same shapes."""
        import torch

        n, channels, height, width = images.shape
        device, side = images.device, 2 * self.padding
        padded = torch.nn.functional.pad(images, [self.padding] * 4).flatten()
        across, down = width + side, height + side  # of a padded image
        left, top = torch.randint(side + 1, (2, n, 1, 1), device=device)
        planes = torch.arange(n * channels, device=device).view(n, channels, 1) * down
        lines = planes + top + torch.arange(height, device=device)
        # every run of `width` pixels as a row of a view whose rows overlap: one copy for each line of each crop
        runs = padded.as_strided((len(padded) - width + 1, width), (1, 1))
        return runs.index_select(0, (lines * across + left).flatten()).view_as(images), targets
