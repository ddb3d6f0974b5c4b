"""Padded random crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.schema import number, words


@dataclass
class Crop:
    """Pads and cuts each image at its own place (DeiT, datasets.py: at 32 pixels, padding 4 with black)."""

    padding: int = number(4, 0, 32, "a number of pixels", whole=True)
    fill: str = words("black", "reflect")  # reflect: Jordan 2024, released code
    stage: ClassVar[str] = "pixels"

    def __call__(self, images, targets):
        """images [N,3,H,W], targets [N,K] -> the same shapes."""
        import torch

        n, _, height, width = images.shape
        if self.fill == "black":
            padded = torch.nn.functional.pad(images, [self.padding] * 4)
        else:
            rows, columns = (_reflecting(length, self.padding, images.device) for length in (height, width))
            padded = images[:, :, rows][:, :, :, columns]
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [N,3,2p+1,2p+1,H,W], a view
        top, left = torch.randint(2 * self.padding + 1, (2, n), device=images.device)
        return windows[torch.arange(n, device=images.device), :, top, left], targets


def _reflecting(length, padding, device):
    """int64 [length + 2 * padding]: the pixel that each place of the padded side shows."""
    import torch

    place = torch.arange(-padding, length + padding, device=device).abs()
    return length - 1 - (length - 1 - place).abs()
