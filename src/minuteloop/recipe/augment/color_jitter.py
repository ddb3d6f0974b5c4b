"""Colour jitter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.recipe.augment import image_ops as ops
from minuteloop.validation import number


@dataclass
class ColorJitter:
    """Brightness, contrast and saturation of each image times factors, each even in 1 - `strength` to 1 + `strength`.

    torchvision's, without hue; the order of the three is drawn once for all images that change together.
    """

    strength: float = number(0.3, 0, 1, "a share")
    stage: ClassVar[str] = "pixels"
    strengthens: ClassVar[str] = "strength"

    def __call__(self, images, targets):
        """uint8 images [N,3,H,W]; targets [N,K] pass through."""
        import torch

        operations = (ops.brightness, ops.contrast, ops.color)
        for place in torch.randperm(3).tolist():
            factor = torch.empty(len(images), device=images.device)
            images = operations[place](images, factor.uniform_(1 - self.strength, 1 + self.strength))
        return images, targets
