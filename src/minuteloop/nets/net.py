"""The one builder: a blueprint becomes a net of stem, stages and head."""

import torch
from torch import Tensor, nn

from minuteloop.nets.blueprint import BlockPlan, Blueprint, StagePlan
from minuteloop.nets.init import initialise
from minuteloop.nets.ops import DropPath, LayerScale, Whitening, build


class Block(nn.Module):
    """act(shortcut(x) + drop_path(layer_scale(branch(x)))), or without the sum"""

    def __init__(self, plan: BlockPlan):
        super().__init__()
        self.branch = build(plan.branch)
        self.shortcut = None if plan.shortcut is None else build(plan.shortcut)
        self.layer_scale = LayerScale(plan.branch[-1].c_out, plan.layer_scale) if plan.layer_scale else nn.Identity()
        self.drop_path = DropPath()
        self.act = build(plan.act)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.layer_scale(self.branch(x))
        if self.shortcut is None:
            return self.act(branch)
        return self.act(self.shortcut(x) + self.drop_path(branch))


class Stage(nn.Module):
    """Maps [N, C, H, W] to the stage's maps: its transition, then its blocks."""

    def __init__(self, plan: StagePlan):
        super().__init__()
        self.transition = build(plan.transition)
        self.blocks = nn.Sequential(*(Block(block) for block in plan.blocks))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.transition(x))


class Head(nn.Module):
    """Global pool, norm where the arch has one, classifier."""

    def __init__(self, blueprint: Blueprint):
        super().__init__()
        self.pool, self.scale = blueprint.head.pool, blueprint.head.scale
        self.norm = build(blueprint.head_norm)
        self.linear = nn.Linear(blueprint.channels, blueprint.num_classes, bias=blueprint.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        pool = torch.amax if self.pool == "max" else torch.mean
        x = self.norm(pool(x, (2, 3), keepdim=True))  # [N, C, 1, 1]
        return self.scale * self.linear(x.flatten(1))


class Net(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, blueprint: Blueprint):
        super().__init__()
        self.stem = build(blueprint.stem)
        self.stages = nn.Sequential(*(Stage(stage) for stage in blueprint.stages))
        self.head = Head(blueprint)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))

    def init_from(self, images: Tensor) -> None:
        """Sets what is computed from training images [N, 3, H, W], normalised: the filters of a whitening stem."""
        for module in self.modules():
            if isinstance(module, Whitening):
                module.init_from(images)

    def set_drop_path(self, rate: float) -> None:
        """Drop path linear from 0 at the first block to `rate` in [0, 1) at the last (Huang 2016, sec. 3)."""
        blocks = [block for stage in self.stages for block in stage.blocks]
        for n, block in enumerate(blocks):
            block.drop_path.set(rate * n / max(1, len(blocks) - 1))


def build_net(blueprint: Blueprint) -> Net:
    """The net of a blueprint, initialised by the default generator."""
    net = Net(blueprint)
    initialise(net, blueprint.init)
    return net
