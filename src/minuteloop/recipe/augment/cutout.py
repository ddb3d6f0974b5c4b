"""Cutout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import integer


@dataclass
class Cutout:
    """Sets a square of each image to the mean colour, anywhere within it (DeVries 2017; Page 2018: 8 pixels)."""

    length: int = integer(8, 0, 1024, "a number of pixels")
    stage: ClassVar[str] = "normalized"

    def __call__(self, images, targets):
        """images [N,3,H,W], normalised to zero mean; targets [N,K] pass through."""
        import torch

        def kept(length):
            start = torch.randint(max(length - self.length, 0) + 1, (len(images), 1), device=images.device)
            pixel = torch.arange(length, device=images.device)
            return (pixel < start) | (pixel >= start + self.length)  # [N,length]

        rows, columns = kept(images.shape[2]), kept(images.shape[3])
        return images * (rows[:, None, :, None] | columns[:, None, None, :]), targets
