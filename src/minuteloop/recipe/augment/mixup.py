"""Mixup."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class Mixup:
    """Blends each image and target with its neighbor's, by a weight ~ Beta(alpha, alpha) (Zhang 2018, sec. 2).

    Each sample draws its own weight. With several `mixed` ingredients in a recipe, each sample uses one of them, drawn
    evenly (timm's switch_prob, but per sample), and mixes with a sample that uses the same.
    """

    alpha: float = number(0.8, 1e-6, 100, "both parameters of the Beta distribution")
    prob: float = number(1.0, 0, 1, "probability that a sample is mixed")
    stage: ClassVar[str] = "mixed"
    strengthens: ClassVar[str] = "prob"

    def __call__(self, images, targets):
        """Mix images [N,3,H,W] and targets [N,K]."""
        import torch

        is_mixed = torch.rand(len(images), device=images.device) < self.prob
        alpha = torch.full((len(images),), self.alpha, device=images.device)
        weight = torch.distributions.Beta(alpha, alpha, validate_args=False).sample()
        weight = torch.where(is_mixed, weight, 1.0)[:, None]
        mixed = images.roll(1, 0).lerp(images, weight[:, :, None, None])
        return mixed, targets.roll(1, 0).lerp(targets, weight)
