"""Build a net of stem, stages and head from its spec."""

from torch import Tensor, nn

from minuteloop.nets.attention import Positions
from minuteloop.nets.block import BlockSpec
from minuteloop.nets.init import init_weights, zero_init_last
from minuteloop.nets.layers import DropPath, LayerScale, Whitening, build
from minuteloop.nets.program import channels_out
from minuteloop.nets.spec import NetSpec, StageSpec
from minuteloop.nets.timm_adapter import TimmNet, TimmSpec


class Block(nn.Module):
    """act(shortcut(x) + drop_path(layer_scale(branch(x)))), with one sum for each branch, or without sums."""

    def __init__(self, spec: BlockSpec):
        super().__init__()
        self.pre = build(spec.pre, keeps_input=True)
        self.branches = nn.ModuleList(build(branch, keeps_input=True) for branch in spec.branches)
        self.shortcut = None if spec.shortcut is None else build(spec.shortcut)
        self.projects = bool(spec.shortcut)
        is_scaled, c = spec.layer_scale > 0, channels_out(spec.ops, 0)
        self.layer_scales = nn.ModuleList(LayerScale(c, spec.layer_scale) for _ in spec.branches if is_scaled)
        self.drop_path = DropPath()
        self.act = build(spec.act)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.pre(x)
        for n, branch in enumerate(self.branches):
            y = branch(x if n else shared)
            if self.layer_scales:
                y = self.layer_scales[n](y)
            if self.shortcut is None:
                x = y
            else:
                x = (self.shortcut(shared) if self.projects and not n else x) + self.drop_path(y)
        return self.act(x)


class Stage(nn.Module):
    """A transition, then blocks, on feature maps [N, C, H, W]."""

    def __init__(self, spec: StageSpec):
        super().__init__()
        self.transition = build(spec.transition, keeps_input=True)
        self.blocks = nn.Sequential(*(Block(block) for block in spec.blocks))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.transition(x))


class Head(nn.Module):
    """Optional last convolution or norm, global pool, optional norm, classifier."""

    def __init__(self, spec: NetSpec):
        super().__init__()
        self.pool, self.scale = spec.head.pool, spec.head.scale
        self.last = build(spec.last, keeps_input=True)
        self.norm = build(spec.head_norm)
        self.linear = nn.Linear(spec.channels, spec.num_classes, bias=spec.head.bias)
        self.dropout = 0.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(x)
        # not amax: its compiled gradient is 0 / 0 where the maximum was rounded to bf16 and its feature map was not
        x = nn.functional.max_pool2d(x, x.shape[2:]) if self.pool == "max" else x.mean((2, 3), keepdim=True)
        x = self.norm(x).flatten(1)  # [N, C]
        if self.dropout and self.training:
            x = nn.functional.dropout(x, self.dropout)
        return self.scale * self.linear(x)


class Net(nn.Module):
    """Stem, stages and head: images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, spec: NetSpec):
        super().__init__()
        self.resize = spec.resize
        self.stem = build(spec.stem)
        if spec.positions:
            self.stem.append(Positions(channels_out(spec.stem, 3), spec.stem_resolution))
        self.stages = nn.Sequential(*(Stage(stage) for stage in spec.stages))
        self.head = Head(spec)
        self.strides = spec.strides

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self._forward_stem(x)))

    def features(self, x: Tensor) -> list[tuple[int, Tensor]]:
        """Return (stride in pixels, feature maps [N, C, H / stride, W / stride]) of each stage for images [N, 3, H, W].

        Where compound scaling resizes images, H, W and the stride are those of the resized images.
        """
        x, features = self._forward_stem(x), []
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(x)
            features.append((stride, x))
        return features

    def _forward_stem(self, x: Tensor) -> Tensor:
        if self.resize != 1:
            x = nn.functional.interpolate(x, [int(size * self.resize) for size in x.shape[2:]], mode="bilinear")
        return self.stem(x)

    def get_classifier(self) -> nn.Linear:
        """Return the last layer, as timm's models do."""
        return self.head.linear

    def init_from(self, images: Tensor) -> None:
        """Compute the filters of a whitening stem from normalized training images [N, 3, H, W]."""
        for module in self.modules():
            if isinstance(module, Whitening):
                module.init_from(images)

    def set_drop_path(self, rate: float) -> None:
        """Set drop path, linear from 0 at the first block to `rate` in [0, 1) at the last (Huang 2016, sec. 3)."""
        blocks = [block for stage in self.stages for block in stage.blocks]
        for n, block in enumerate(blocks):
            block.drop_path.set(rate * n / max(1, len(blocks) - 1))

    def set_dropout(self, rate: float) -> None:
        """Set the rate, in [0, 1), of dropout before the classifier."""
        self.head.dropout = rate


def build_net(spec: NetSpec | TimmSpec) -> Net | TimmNet:
    """Build a net with initial weights from torch's default generator."""
    if isinstance(spec, TimmSpec):
        return TimmNet(spec)
    net = Net(spec)
    init_weights(net, spec.init)
    if spec.zero_init_last:
        for stage in net.stages:
            for block in stage.blocks:
                for branch in block.branches if block.shortcut is not None else ():
                    zero_init_last(branch)
    return net
