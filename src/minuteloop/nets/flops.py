"""What a net costs: parameters and multiply-adds of its convolutions and linear layers, without running it."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn

from minuteloop.nets.blueprint import Blueprint
from minuteloop.nets.net import build_net
from minuteloop.nets.timm_adapter import TimmPlan


@dataclass(frozen=True)
class Cost:
    """What a net costs."""

    params: int
    macs: int  # multiply-adds of one image, forward (the papers' FLOPs)
    parts: dict[str, tuple[int, int]]  # stem, stages.0, ..., head -> params, macs; of timm model.X


def count(net: nn.Module | Blueprint | TimmPlan, image_size: int) -> Cost:
    """The cost of `net` on one image [3, image_size, image_size], counted on the meta device."""
    if isinstance(net, nn.Module):
        net = copy.deepcopy(net).to("meta")
    else:
        with torch.device("meta"):
            net = build_net(net)
    params, macs = {}, {}

    def part(name: str) -> str:
        return ".".join(name.split(".")[: 2 if name.startswith(("stages.", "model.")) else 1])

    def add(name: str):
        def hook(module: nn.Module, _, output: torch.Tensor) -> None:
            # one output value reads a whole filter
            each = math.prod(module.weight.shape[1:])
            macs[part(name)] = macs.get(part(name), 0) + each * output.numel()

        return hook

    for name, parameter in net.named_parameters():
        params[part(name)] = params.get(part(name), 0) + parameter.numel()
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add(name))
    with torch.no_grad():
        net.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    parts = {name: (params.get(name, 0), macs.get(name, 0)) for name in params | macs}
    return Cost(sum(params.values()), sum(macs.values()), parts)
