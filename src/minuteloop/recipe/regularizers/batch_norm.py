"""Batch norm for short runs."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.validation import number


@dataclass
class BatchNorm:
    """Sets how fast the running statistics follow, and freezes the scales at 1 unless `scale` (Jordan 2024, sec. 3.1).

    torch's momentum of 0.1 remembers about 10 steps; 0.4 suits weights that move by a large share each step.
    """

    momentum: float = number(0.4, 1e-6, 1, "a share")  # torch's sense: of the newest batch
    eps: float = number(1e-12, 0, 1, "a small number")
    scale: bool = False

    def __call__(self, net):
        """Sets the norms of `net`, before its optimizer is made."""
        import torch

        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum, module.eps = self.momentum, self.eps
                if not self.scale:
                    module.weight.requires_grad_(False)
