"""The layer of ghost batch norm."""

import torch
from torch import Tensor, nn

from minuteloop.validation import ConfigError


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d that normalizes groups of `ghost_batch_size` images separately in training."""

    ghost_batch_size: int

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or len(x) % self.ghost_batch_size or len(x) == self.ghost_batch_size:
            return super().forward(x)
        groups, momentum = x.split(self.ghost_batch_size), self.momentum
        self.momentum = 1 - (1 - momentum) ** (1 / len(groups))  # all groups together count as one batch
        normalized = torch.cat([super(GhostBatchNorm2d, self).forward(group) for group in groups])
        self.momentum = momentum
        return normalized


def convert(net: nn.Module, ghost_batch_size: int) -> None:
    """Turn the batch norms of `net` into GhostBatchNorm2d, in place."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise ConfigError("recipe.regularizers.ghost_batch_norm: the net has no batch norm")
    for norm in norms:
        if type(norm) not in (nn.BatchNorm2d, GhostBatchNorm2d):
            name = type(norm).__name__
            raise ConfigError(f"recipe.regularizers.ghost_batch_norm: cannot split {name}, only torch's BatchNorm2d")
    for norm in norms:
        norm.__class__, norm.ghost_batch_size = GhostBatchNorm2d, ghost_batch_size
