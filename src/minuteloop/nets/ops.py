"""The operations of a program as modules. Maps are [N, C, H, W], channels_last in memory where the net is."""

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from minuteloop.nets.program import Program

# Op.kind -> module
MODULES = {
    "conv": lambda op: nn.Conv2d(op.c_in, op.c_out, op.kernel, op.stride, op.padding, groups=op.groups, bias=op.bias),
    "maxpool": lambda op: nn.MaxPool2d(op.kernel, op.stride, op.padding),
    "bn": lambda op: nn.BatchNorm2d(op.c_out),
    "ln": lambda op: LayerNorm2d(op.c_out, eps=1e-6),  # over channels; eps: Liu 2022, released code
    "relu": lambda op: nn.ReLU(inplace=True),
    "gelu": lambda op: nn.GELU(),
}


def build(program: Program) -> nn.Sequential:
    """The module that executes a program; an empty one is the identity."""
    return nn.Sequential(*(MODULES[op.kind](op) for op in program))


class LayerScale(nn.Module):
    """x * gamma, one learned gamma a channel (Touvron 2021b, sec. 2)."""

    def __init__(self, channels: int, initial: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class DropPath(nn.Module):
    """Drops a sample's whole branch with probability `rate` and scales the others by 1 / (1 - rate) (Huang 2016, sec. 3).

    The rate is a tensor, so it can change without recompiling; until `set` first gets one above 0 nothing is drawn.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("rate", torch.zeros(()), persistent=False)
        self.on = False

    def set(self, rate: float) -> None:
        """`rate` in [0, 1). Raises ValueError."""
        if not 0 <= rate < 1:
            raise ValueError(f"a drop path rate of {rate} is not in [0, 1)")
        self.on = self.on or rate > 0
        self.rate.fill_(rate)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.on):
            return x
        keep = 1 - self.rate
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) < keep
        return x * (kept / keep).to(x.dtype)
