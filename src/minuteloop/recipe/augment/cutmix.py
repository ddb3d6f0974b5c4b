"""CutMix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class CutMix:
    """Pastes a box of the neighbouring image into each image; targets mix by area (Yun 2019, sec. 3.1).

    The box has the image's aspect, a uniformly drawn centre and the area 1 - weight, weight ~ Beta(alpha, alpha), and
    is clipped at the border; the targets' weight is that of the clipped box.
    """

    alpha: float = number(1.0, 1e-6, 100, "a number above 0")
    prob: float = number(1.0, 0, 1, "a probability")
    stage: ClassVar[str] = "mixed"
    strengthens: ClassVar[str] = "prob"

    def __call__(self, images, targets):
        """images [N,3,H,W], targets [N,K] -> the same shapes."""
        import torch

        n, _, height, width = images.shape
        chosen = torch.rand(n, device=images.device) < self.prob
        alpha = torch.full((n,), self.alpha, device=images.device)
        side = torch.sqrt(1 - torch.distributions.Beta(alpha, alpha, validate_args=False).sample())
        rows = _span(side, height, torch.rand_like(side)) * chosen[:, None]
        columns = _span(side, width, torch.rand_like(side))
        kept = 1 - (rows.mean(1) * columns.mean(1))[:, None]
        pasted = rows[:, None, :, None] * columns[:, None, None, :]  # [N,1,H,W]
        return images.lerp(images.roll(1, 0), pasted), targets.roll(1, 0).lerp(targets, kept)


def _span(side, length, centre):
    """float [N,length]: 1 where pixels lie within a box of `side` (a share of length) around `centre` (likewise)."""
    import torch

    half = (side * length).int() // 2
    middle = (centre * length).int()
    pixel = torch.arange(length, device=side.device)
    return ((pixel >= (middle - half)[:, None]) & (pixel < (middle + half)[:, None])).float()
