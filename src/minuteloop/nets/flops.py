"""Count parameters and multiply-adds of convolutions and linear layers, without running the net."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn

from minuteloop.nets.net import build_net
from minuteloop.nets.spec import NetSpec
from minuteloop.nets.timm_adapter import TimmSpec


@dataclass(frozen=True)
class Cost:
    """Size and forward cost of a net."""

    params: int
    macs: int  # multiply-adds of one image, forward (the papers' FLOPs)
    parts: dict[str, tuple[int, int]]  # stem, stages.0, ..., head (timm: model.X) -> params, macs


def count(net: nn.Module | NetSpec | TimmSpec, image_size: int) -> Cost:
    """Count the cost of `net` on one image [3, image_size, image_size], on the meta device.

    As in the published figures, attention's products and fixed filters such as blur do not count;
    torch.utils.flop_counter includes them.
    """
    if isinstance(net, nn.Module):
        net = copy.deepcopy(net).to("meta")
    else:
        with torch.device("meta"):
            net = build_net(net)
    params, macs = {}, {}

    def part(name: str) -> str:
        return ".".join(name.split(".")[: 2 if name.startswith(("stages.", "model.")) else 1])

    def add_macs(name: str):
        def hook(module: nn.Module, _, output: torch.Tensor) -> None:
            # each output value reads one filter
            macs[part(name)] = macs.get(part(name), 0) + math.prod(module.weight.shape[1:]) * output.numel()

        return hook

    for name, parameter in net.named_parameters():
        params[part(name)] = params.get(part(name), 0) + parameter.numel()
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add_macs(name))
    with torch.no_grad():
        net.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    parts = {name: (params.get(name, 0), macs.get(name, 0)) for name in params | macs}
    return Cost(sum(params.values()), sum(macs.values()), parts)
