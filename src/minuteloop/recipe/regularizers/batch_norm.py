"""Batch norm for short runs."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number, setting


@dataclass
class BatchNorm:
    """Sets the momentum of batch norm's running statistics and freezes its scales (Jordan 2024, sec. 3.1).

    torch's default momentum of 0.1 averages about 10 steps; 0.4 suits weights that change much in each step.
    """

    momentum: float = number(0.4, 1e-6, 1, "weight of the newest batch in the running statistics")
    eps: float = number(1e-12, 0, 1, "term added to the variance")
    scale: bool = setting(False, "train the scales instead of freezing them at 1")
    needs: ClassVar[str] = "batch_norm"

    def __call__(self, net):
        """Set the batch norms of `net`; call before its optimizer is built."""
        import torch

        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum, module.eps = self.momentum, self.eps
                if not self.scale:
                    module.weight.requires_grad_(False)
