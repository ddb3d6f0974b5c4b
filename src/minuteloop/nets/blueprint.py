"""The programs of a whole net: an arch, a size and an image resolved to a blueprint of operations, channels and grids.

Steps carry the paper's numbers; the size multiplies them afterwards, and strides are taken away until the net fits
the image. No torch here, so that a mistake is told before anything heavy loads.
"""

import itertools
import math
from dataclasses import dataclass, field, fields, replace

from minuteloop.nets.program import Program, branch, channels_out, drop, grid_out, parse, spell
from minuteloop.schema import Arch, Block, ConfigError, Head, Size, nearest

# stem.kind -> program; a key with a stride is for that stride only
STEMS = {
    ("conv", 4): "conv7/2:w norm act maxpool3/2",  # He 2016, table 1
    "conv": "conv3/{s}:w norm act",  # He 2016, sec. 4.2 (CIFAR, stride 1)
    "patch": "conv{s}/{s}:w norm",  # Liu 2022, sec. 2.2
    "whiten": "whiten2/{s}:24 act",  # Jordan 2024, sec. 3.2: both signs of the 12 eigenvectors
}


@dataclass(frozen=True)
class BlockPlan:
    """act(shortcut(x) + layer_scale * branch(x)), or act(layer_scale * branch(x)) without a shortcut"""

    branch: Program
    shortcut: Program | None  # empty = identity, None = no sum
    act: Program  # on the sum; empty = none
    layer_scale: float  # initial value; 0 = none

    def text(self, w: int) -> str:
        scale = f" scale={self.layer_scale:g}" if self.layer_scale else ""
        act = f", then {spell(self.act, w)}" if self.act else ""
        plus = "" if self.shortcut is None else f" + {spell(self.shortcut, w) or 'x'}"
        return f"{spell(self.branch, w)}{scale}{plus}{act}"


@dataclass(frozen=True)
class StagePlan:
    """A stage resolved: what leads into it, and its blocks."""

    width: int  # channels: w of its programs
    grid: int  # side of its maps, pixels
    transition: Program  # empty = the first block strides
    blocks: tuple[BlockPlan, ...]
    channels: int  # that leave it


@dataclass(frozen=True)
class Blueprint:
    """A net resolved: nothing is left to decide when it is built."""

    image_size: int  # side, pixels
    num_classes: int
    bias: bool  # of the convolutions
    init: str  # of the convolutions: a word of schema.Block.init
    stem: Program
    stem_width: int
    stem_grid: int
    stages: tuple[StagePlan, ...]
    head: Head
    head_norm: Program  # between the global pool and the classifier
    warnings: tuple[str, ...] = field(compare=False)

    @property
    def channels(self) -> int:
        """Channels of the last map, which the classifier reads."""
        return self.stages[-1].channels

    def text(self) -> str:
        """The net in words: equal texts are equal nets."""
        image = f"{self.image_size}x{self.image_size}"
        init = "" if self.init == "normal" else f", {self.init} weights"
        lines = [
            f"image    {image}, convolutions {'with' if self.bias else 'without'} bias{init}",
            f"stem     {self.stem_grid}x{self.stem_grid}, w={self.stem_width}: {spell(self.stem, self.stem_width)}",
        ]
        for number, stage in enumerate(self.stages, 1):
            lines.append(f"stage {number}  {stage.grid}x{stage.grid}, w={stage.width}")
            if stage.transition:
                lines.append(f"     ->  {spell(stage.transition, stage.width)}")
            for line, run in itertools.groupby(block.text(stage.width) for block in stage.blocks):
                lines.append(f"{len(list(run)):5} x  {line}")
        lines.append(f"head     {self.head_text()}")
        return "\n".join(lines)

    def head_text(self) -> str:
        """The head in words."""
        bias = "" if self.head.bias else " without bias"
        scale = "" if self.head.scale == 1 else f" x {self.head.scale:g}"
        words = [self.head.pool, spell(self.head_norm, self.channels), f"linear:{self.num_classes}{bias}{scale}"]
        return " ".join(word for word in words if word)


def resolve(arch: Arch, size: Size, image_size: int, num_classes: int) -> Blueprint:
    """The blueprint of `arch` at `size` for images of side `image_size` (pixels). Raises ConfigError.

    A list by stage may be longer than the net has stages; `warnings` says where a table loses entries by that,
    where a kernel is larger than its map, and where a stem or a final map is down to 1x1.
    """
    table, count = arch.stages, len(arch.stages.widths)
    warnings = []
    for key in ("widths", "depths", "strides"):
        entries = getattr(table, key)
        least = 0 if key == "depths" else 1  # a stage may be its transition alone
        if not entries or min(entries) < least:
            raise ConfigError(f"arch.stages.{key}={entries}: not a list of whole numbers from {least} on")
        if len(entries) < count:
            raise ConfigError(f"arch.stages.{key} has {len(entries)} entries, but widths make {count} stages")
        if len(entries) > count:
            warnings.append(f"arch.stages.{key}: only the first {count} of {len(entries)} entries are used")
    stem_stride, *strides = _strides([arch.stem.stride, *table.strides[:count]], size.reduce, image_size)

    stem_width = _width(arch.stem.width, table.widen, size)
    stem = parse(_stem(arch.stem.kind, stem_stride), _at_stage(arch.block, 0), 3, stem_width, stem_stride)
    if all(op.kernel == 1 for op in stem):
        warnings.append("stem: reads single pixels (1x1); a larger size.reduce gives it patches")
    stem_grid = grid = grid_out(stem, image_size)
    c = channels_out(stem, 3)

    stages = []
    for i, stride in enumerate(strides):
        width, depth = _width(table.widths[i], table.widen, size), _depth(table.depths[i], size, i)
        stage = _stage(_at_stage(arch.block, i), table.transition, c, width, depth, stride, grid)
        c, grid = stage.channels, stage.grid
        if grid < 1:
            raise ConfigError(f"stage {i + 1}: nothing is left of a {image_size}x{image_size} image; lower size.reduce")
        kernel = max((op.kernel for block in stage.blocks[-1:] for op in block.branch), default=1)
        if kernel > grid:
            warnings.append(f"stage {i + 1}: kernel {kernel} is larger than its {grid}x{grid} grid")
        stages.append(stage)
    if grid == 1:
        warnings.append(f"stage {count}: final map is 1x1")

    return Blueprint(
        image_size=image_size,
        num_classes=num_classes,
        bias=arch.block.bias,
        init=arch.block.init,
        stem=stem,
        stem_width=stem_width,
        stem_grid=stem_grid,
        stages=tuple(stages),
        head=arch.head,
        head_norm=parse("norm" if arch.head.norm == "after" else "", _at_stage(arch.block, count - 1), c, c),
        warnings=tuple(warnings),
    )


def _stem(kind: str, stride: int) -> str:
    """The stem's program: `kind` is one, or a word of STEMS. Raises ConfigError."""
    words = [word for word in STEMS if isinstance(word, str)]
    if kind.isalpha() and kind not in words:
        raise ConfigError(f"arch.stem.kind={kind}, neither a word nor a program{nearest(kind, words)}")
    return STEMS.get((kind, stride)) or STEMS.get(kind, kind)


def _stage(knobs: Block, transition: str, c: int, w: int, depth: int, stride: int, grid: int) -> StagePlan:
    """A stage `w` channels wide, entered by `c` channels on a map of side `grid`. Raises ConfigError."""
    between = parse(transition, knobs, c, w, stride) if transition and stride > 1 else ()
    if between:
        c, grid, stride = channels_out(between, c), grid_out(between, grid), 1
    blocks = []
    for n in range(depth):
        blocks.append(_block(knobs, c, w, 1 if n else stride, grid))
        c, grid = channels_out(blocks[-1].branch, c), grid_out(blocks[-1].branch, grid)
    if not (between or blocks):
        raise ConfigError("arch.stages.depths: a stage of 0 blocks needs a transition and a stride above 1")
    return StagePlan(w, grid, between, tuple(blocks), c)


def _block(knobs: Block, c: int, w: int, stride: int, grid: int) -> BlockPlan:
    """A residual block entered by `c` channels on a map of side `grid`. Raises ConfigError."""
    main = parse(branch(knobs, c, w, stride), knobs, c, w)
    out = channels_out(main, c)
    shortcut = ()
    if stride > 1 or out != c:
        shortcut = parse(f"pw/{stride}:{out} norm", knobs, c, w) if knobs.shortcut == "conv" else None
    if knobs.shortcut == "none":
        shortcut = None
    if shortcut is not None and grid_out(main, grid) != grid_out(shortcut, grid):
        raise ConfigError(
            f"arch.block.kernel={knobs.kernel}: the branch ends on a smaller map than the shortcut; take an odd kernel"
        )
    act = parse("act", knobs, out, w) if knobs.acts == "all" else ()
    return BlockPlan(main, shortcut, act, knobs.layer_scale)


def _strides(strides: list[int], reduce: int | str, image_size: int) -> list[int]:
    """The stem's and the stages' strides for a total of `reduce`, or their own where that is less.

    auto = 32 at 128 pixels and above, 8 at 32.
    """
    total = math.prod(strides)
    if reduce == "auto":
        reduce = max(n for n in range(1, max(1, min(32, image_size // 4)) + 1) if total % n == 0)
    reduce = min(reduce, total)
    return drop(strides, reduce, f"size.reduce={reduce}")


def _width(width: int, widen: float, size: Size) -> int:
    """The paper's width, exact; at another size a multiple of 8 not below 90 % of it (Sandler 2018, released code)."""
    width = int(width * widen)
    if size.width == 1:
        return width
    scaled = width * size.width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


def _depth(depth: int, size: Size, i: int) -> int:
    """Blocks, rounded up (Tan 2019, released code); 0.01 below, so that 0.667 x 9 is 6."""
    return max(min(1, depth), math.ceil(_entry(size.depth, i) * depth - 0.01))


def _entry(value: object, i: int) -> object:
    """One value for all stages, or a list by stage whose last entry repeats."""
    return value[min(i, len(value) - 1)] if isinstance(value, list) else value


def _at_stage(block: Block, i: int) -> Block:
    return replace(block, **{knob.name: _entry(getattr(block, knob.name), i) for knob in fields(block)})
