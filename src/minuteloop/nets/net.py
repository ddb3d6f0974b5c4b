"""The one builder: a blueprint becomes a net of stem, stages and head."""

from torch import Tensor, nn

from minuteloop.nets.attention import Positions
from minuteloop.nets.block import BlockPlan
from minuteloop.nets.blueprint import Blueprint, StagePlan
from minuteloop.nets.init import initialise, zero_last
from minuteloop.nets.layers import DropPath, LayerScale, Whitening, build
from minuteloop.nets.program import channels_out
from minuteloop.nets.timm_adapter import TimmNet, TimmPlan
from minuteloop.validation import ConfigError


class Block(nn.Module):
    """act(shortcut(x) + drop_path(layer_scale(branch(x)))), once for each branch, or without the sum"""

    def __init__(self, plan: BlockPlan):
        super().__init__()
        self.pre = build(plan.pre, keeps_input=True)
        self.branches = nn.ModuleList(build(branch, keeps_input=True) for branch in plan.branches)
        self.shortcut = None if plan.shortcut is None else build(plan.shortcut)
        self.projects = bool(plan.shortcut)
        scaled, c = plan.layer_scale > 0, channels_out(plan.ops, 0)
        self.layer_scales = nn.ModuleList(LayerScale(c, plan.layer_scale) for _ in plan.branches if scaled)
        self.drop_path = DropPath()
        self.act = build(plan.act)

    def forward(self, x: Tensor) -> Tensor:
        entered = self.pre(x)
        for n, branch in enumerate(self.branches):
            y = branch(x if n else entered)
            if self.layer_scales:
                y = self.layer_scales[n](y)
            if self.shortcut is None:
                x = y
            else:
                x = (self.shortcut(entered) if self.projects and not n else x) + self.drop_path(y)
        return self.act(x)


class Stage(nn.Module):
    """Maps [N, C, H, W] to the stage's maps: its transition, then its blocks."""

    def __init__(self, plan: StagePlan):
        super().__init__()
        self.transition = build(plan.transition, keeps_input=True)
        self.blocks = nn.Sequential(*(Block(block) for block in plan.blocks))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.transition(x))


class Head(nn.Module):
    """What the arch has before the global pool, the pool, norm where the arch has one, classifier."""

    def __init__(self, blueprint: Blueprint):
        super().__init__()
        self.pool, self.scale = blueprint.head.pool, blueprint.head.scale
        self.last = build(blueprint.last, keeps_input=True)
        self.norm = build(blueprint.head_norm)
        self.linear = nn.Linear(blueprint.channels, blueprint.num_classes, bias=blueprint.head.bias)
        self.dropout = 0.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(x)
        # not amax, whose compiled gradient is 0 / 0 where the maximum was rounded to bf16 and its map was not
        x = nn.functional.max_pool2d(x, x.shape[2:]) if self.pool == "max" else x.mean((2, 3), keepdim=True)
        x = self.norm(x).flatten(1)  # [N, C]
        if self.dropout and self.training:
            x = nn.functional.dropout(x, self.dropout)
        return self.scale * self.linear(x)


class Net(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, blueprint: Blueprint):
        super().__init__()
        self.resize = blueprint.resize
        self.stem = build(blueprint.stem)
        if blueprint.positions:
            self.stem.append(Positions(channels_out(blueprint.stem, 3), blueprint.stem_grid))
        self.stages = nn.Sequential(*(Stage(stage) for stage in blueprint.stages))
        self.head = Head(blueprint)
        self.strides = blueprint.strides

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self._enter(x)))

    def features(self, x: Tensor) -> list[tuple[int, Tensor]]:
        """Images [N, 3, H, W] -> (stride in pixels, maps [N, C, H / stride, W / stride]) of each stage.

        Where compound scaling resizes images, H, W and the stride are those of the resized ones.
        """
        x, found = self._enter(x), []
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(x)
            found.append((stride, x))
        return found

    def _enter(self, x: Tensor) -> Tensor:
        if self.resize != 1:
            x = nn.functional.interpolate(x, [int(side * self.resize) for side in x.shape[2:]], mode="bilinear")
        return self.stem(x)

    def init_from(self, images: Tensor) -> None:
        """Sets what is computed from training images [N, 3, H, W], normalised: the filters of a whitening stem."""
        for module in self.modules():
            if isinstance(module, Whitening):
                module.init_from(images)

    def set_drop_path(self, rate: float) -> None:
        """Drop path linear from 0 at the first block to `rate` in [0, 1) at the last (Huang 2016, sec. 3).

        Raises ConfigError where no block has a shortcut.
        """
        blocks = [block for stage in self.stages for block in stage.blocks]
        if rate and all(block.shortcut is None for block in blocks):
            raise ConfigError("drop path needs blocks with a shortcut: ~recipe.regularizers.drop_path")
        for n, block in enumerate(blocks):
            block.drop_path.set(rate * n / max(1, len(blocks) - 1))

    def set_dropout(self, rate: float) -> None:
        """Dropout before the classifier, with a rate in [0, 1)."""
        self.head.dropout = rate


def build_net(blueprint: Blueprint | TimmPlan) -> Net | TimmNet:
    """The net of a blueprint, initialised by the default generator."""
    if isinstance(blueprint, TimmPlan):
        return TimmNet(blueprint)
    net = Net(blueprint)
    initialise(net, blueprint.init)
    if blueprint.zero_init_last:
        for stage in net.stages:
            for block in stage.blocks:
                for branch in block.branches if block.shortcut is not None else ():
                    zero_last(branch)
    return net
