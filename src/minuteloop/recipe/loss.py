"""Losses over soft targets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class CrossEntropy:
    """Mean cross-entropy; targets may be soft, which mixing and label smoothing make them."""

    def __call__(self, logits, targets):
        """logits [N,K], targets [N,K], rows that sum to 1 -> scalar, in nats."""
        import torch

        return torch.nn.functional.cross_entropy(logits.float(), targets)
