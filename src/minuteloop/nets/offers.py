"""What a net has for ingredients to act on. Imports no torch for our nets, so that config errors appear early."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from minuteloop.nets.spec import NetSpec

if TYPE_CHECKING:
    from minuteloop.nets.timm_adapter import TimmSpec


def offers(spec: NetSpec | TimmSpec) -> set[str]:
    """Return what a resolved net offers of drop_path, dropout, batch_norm and torch_batch_norm.

    A net of ours drops paths of every block but the first. torch_batch_norm is torch's own class, not one derived from
    it, as some timm models have.
    """
    if not isinstance(spec, NetSpec):
        return _offers_of_timm(spec)
    blocks = [block for stage in spec.stages for block in stage.blocks]
    ops = [*spec.stem, *spec.last, *spec.head_norm, *(op for stage in spec.stages for op in stage.transition)]
    for block in blocks:
        ops += [*block.pre, *itertools.chain(*block.branches), *(block.shortcut or ())]
    found = {"dropout"}
    found |= {"drop_path"} if any(block.shortcut is not None for block in blocks[1:]) else set()
    return found | ({"batch_norm", "torch_batch_norm"} if any(op.kind == "bn" for op in ops) else set())


def _offers_of_timm(spec: TimmSpec) -> set[str]:
    import torch

    from minuteloop.nets.timm_adapter import TimmNet

    with torch.device("meta"):
        net = TimmNet(spec)
    modules = list(net.modules())
    found = {
        "drop_path": bool(net.drop_paths),
        "batch_norm": any(isinstance(module, torch.nn.BatchNorm2d) for module in modules),
        "torch_batch_norm": any(type(module) is torch.nn.BatchNorm2d for module in modules),
    }
    return {feature for feature, is_there in found.items() if is_there}
