"""Losses over soft targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minuteloop.validation import number


@dataclass
class CrossEntropy:
    """Mean cross-entropy; targets may be soft, which mixing and label smoothing make them."""

    def __call__(self, logits, targets):
        """logits [N,K], targets [N,K], rows that sum to 1 -> scalar, in nats."""
        import torch

        return torch.nn.functional.cross_entropy(logits.float(), targets)


@dataclass
class BinaryCrossEntropy:
    """Mean over images and classes of the binary cross-entropy of each class (Wightman 2021, sec. 2.1).

    With `threshold` a target above it counts as 1 and any other as 0, so that both parts of a mixed image are there.
    """

    threshold: Any = number(None, 0, 1, "null or a share", allow=(None,))

    def __call__(self, logits, targets):
        """logits [N,K], targets [N,K] in [0, 1] -> scalar, in nats."""
        import torch

        if self.threshold is not None:
            targets = (targets > self.threshold).float()
        return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets)
