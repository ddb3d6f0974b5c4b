"""Mixup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class Mixup:
    """Blends each image and target with its neighbour's by its own weight ~ Beta(alpha, alpha) (Zhang 2018, sec. 2).

    Where several `mixed` ingredients are listed, each sample meets one of them, drawn evenly (timm's switch_prob, but
    by sample), and mixes with one that met the same.
    """

    alpha: float = number(0.8, 1e-6, 100, "a number above 0")
    prob: float = number(1.0, 0, 1, "a probability")
    stage: ClassVar[str] = "mixed"
    strengthens: ClassVar[str] = "prob"

    def __call__(self, images, targets):
        """images [N,3,H,W], targets [N,K] -> the same shapes."""
        import torch

        chosen = torch.rand(len(images), device=images.device) < self.prob
        alpha = torch.full((len(images),), self.alpha, device=images.device)
        weight = torch.distributions.Beta(alpha, alpha, validate_args=False).sample()
        weight = torch.where(chosen, weight, 1.0)[:, None]
        mixed = images.roll(1, 0).lerp(images, weight[:, :, None, None])
        return mixed, targets.roll(1, 0).lerp(targets, weight)
