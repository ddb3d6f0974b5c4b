"""CutMix."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class CutMix:
    """Pastes a box of the neighboring image into each image and mixes the targets by area (Yun 2019, sec. 3.1).

    The box has the image's aspect ratio, a uniformly drawn center and the area 1 - weight, weight ~ Beta(alpha, alpha).
    It is clipped at the border; the targets are weighted by the clipped box.
    """

    alpha: float = number(1.0, 1e-6, 100, "both parameters of the Beta distribution")
    prob: float = number(1.0, 0, 1, "probability that a sample is mixed")
    stage: ClassVar[str] = "mixed"
    strengthens: ClassVar[str] = "prob"

    def __call__(self, images, targets):
        """Mix images [N,3,H,W] and targets [N,K]."""
        import torch

        from minuteloop.recipe.augment.ops.boxes import span_around

        n, _, height, width = images.shape
        is_mixed = torch.rand(n, device=images.device) < self.prob
        alpha = torch.full((n,), self.alpha, device=images.device)
        fraction = torch.sqrt(1 - torch.distributions.Beta(alpha, alpha, validate_args=False).sample())
        rows = span_around(torch.rand_like(fraction), fraction, height) * is_mixed[:, None]
        columns = span_around(torch.rand_like(fraction), fraction, width)
        weight = 1 - (rows.mean(1) * columns.mean(1))[:, None]
        box = rows[:, None, :, None] * columns[:, None, None, :]  # [N,1,H,W]
        return images.lerp(images.roll(1, 0), box), targets.roll(1, 0).lerp(targets, weight)
