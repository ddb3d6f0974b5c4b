"""Color jitter."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class ColorJitter:
    """Random brightness, contrast and saturation of each image, as in torchvision without hue.

    Each factor is uniform in [1 - `strength`, 1 + `strength`]. The order of the three is drawn once per call.
    """

    strength: float = number(0.3, 0, 1, "largest relative change of each property")
    stage: ClassVar[str] = "pixels"
    strengthens: ClassVar[str] = "strength"

    def __call__(self, images, targets):
        """Augment uint8 images [N,3,H,W]; the targets [N,K] stay."""
        import torch

        from minuteloop.recipe.augment.ops import tone

        operations = (tone.brightness, tone.contrast, tone.color)
        for index in torch.randperm(3).tolist():
            factor = torch.empty(len(images), device=images.device)
            images = operations[index](images, factor.uniform_(1 - self.strength, 1 + self.strength))
        return images, targets
