"""Ghost batch norm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from minuteloop.validation import ConfigError, integer


@dataclass
class GhostBatchNorm:
    """Batch norm over every `ghost_batch_size` images of a training batch by themselves (Hoffer 2017, sec. 4).

    A batch that `ghost_batch_size` does not divide is normed whole. Raises ConfigError for a net without batch norm, and for one
    whose batch norm is not torch's alone, as that of some of timm's models.
    """

    ghost_batch_size: int = integer(32, 1, 1_000_000, "a number of images")

    def __call__(self, net):
        """Changes the batch norms of `net`, before its optimizer is made."""
        import torch

        norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        if not norms:
            raise ConfigError("ghost_batch_norm: the net has no batch norm")
        for norm in norms:
            if type(norm) not in (torch.nn.BatchNorm2d, _module()):
                raise ConfigError(f"ghost_batch_norm: {type(norm).__name__} cannot be split, only torch's BatchNorm2d")
        for norm in norms:
            norm.__class__, norm.ghost_batch_size = _module(), self.ghost_batch_size


@cache
def _module():
    import torch

    class GhostBatchNorm2d(torch.nn.BatchNorm2d):
        def forward(self, x):
            if not self.training or len(x) % self.ghost_batch_size or len(x) == self.ghost_batch_size:
                return super().forward(x)
            groups, momentum = x.split(self.ghost_batch_size), self.momentum
            self.momentum = 1 - (1 - momentum) ** (1 / len(groups))  # together as fast as one batch
            normed = torch.cat([super(GhostBatchNorm2d, self).forward(group) for group in groups])
            self.momentum = momentum
            return normed

    return GhostBatchNorm2d
