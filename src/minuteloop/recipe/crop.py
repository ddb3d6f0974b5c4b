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

        n, _, height, width = images.shape
        padded = torch.nn.functional.pad(images, [self.padding] * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [N,3,2p+1,2p+1,H,W], a view
        top, left = torch.randint(2 * self.padding + 1, (2, n), device=images.device)
        return windows[torch.arange(n, device=images.device), :, top, left], targets
