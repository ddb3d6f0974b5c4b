"""The programs of a whole net: an arch, a size and an image resolved to a blueprint of operations, channels and grids.

Steps carry the paper's numbers; the size multiplies them afterwards, and strides are taken away until the net fits
the image. No torch here, so that a mistake is told before anything heavy loads.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from minuteloop.nets.block import BlockPlan, resolve_block
from minuteloop.nets.program import Program, channels_out, drop, grid_out, parse, spell
from minuteloop.schema import Arch, Block, Head, Size
from minuteloop.validation import ConfigError, check, did_you_mean

if TYPE_CHECKING:
    from minuteloop.nets.timm_adapter import TimmPlan

# stem.kind -> program; a key with a stride is for that stride only
STEMS = {
    ("conv", 4): "conv7/2:w norm act maxpool3/2",  # He 2016, table 1
    "conv": "conv3/{s}:w norm act",  # He 2016, sec. 4.2 (CIFAR, stride 1)
    ("deep", 4): "conv3/2:0.5w norm act conv3:0.5w norm act conv3:w norm act maxpool3/2",  # He 2019, fig. 2b
    "deep": "conv3/{s}:0.5w norm act conv3:0.5w norm act conv3:w norm act",
    "space_to_depth": "unshuffle{s} conv3:w norm act",  # Ridnik 2021, sec. 2.1
    "patch": "conv{s}/{s}:w norm",  # Liu 2022, sec. 2.2
    ("pool", 1): "conv3:w norm act",
    "pool": "conv3:w maxpool{s}/{s} norm act",  # Page 2019
    "whiten": "whiten2/{s}:24 act",  # Jordan 2024, sec. 3.2: both signs of the 12 eigenvectors
}


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
    resize: float  # factor on that side before the stem
    num_classes: int
    bias: bool  # of the convolutions
    init: str  # of the convolutions: a word of schema.Block.init
    weight: str  # of the convolutions: a word of schema.Block.weight
    zero_init_last: bool  # the last weights of every branch that is added to a shortcut
    stem: Program
    stem_width: int
    stem_grid: int
    positions: bool
    stages: tuple[StagePlan, ...]
    head: Head
    last: Program  # before the global pool
    head_norm: Program  # between the global pool and the classifier
    warnings: tuple[str, ...] = field(compare=False)

    @property
    def channels(self) -> int:
        """Channels that the classifier reads."""
        return channels_out(self.last, self.stages[-1].channels)

    @property
    def strides(self) -> list[int]:
        """Of each stage's maps, pixels of the image where it has been resized."""
        total, found = math.prod(op.stride for op in self.stem), []
        for stage in self.stages:
            branches = (op for block in stage.blocks for op in block.branches[0])
            total *= math.prod(op.stride for op in (*stage.transition, *branches))
            found.append(total)
        return found

    def text(self) -> str:
        """The net in words: equal texts are equal nets."""
        image = f"{self.image_size}x{self.image_size}"
        image += "" if self.resize == 1 else f" resized by {self.resize:.3f}"
        init = "" if self.init == "normal" else f", {self.init} weights"
        init += "" if self.weight == "plain" else f", {self.weight} weights"
        init += ", branches begin at 0" if self.zero_init_last else ""
        positions = " + positions" if self.positions else ""
        stem = f"{spell(self.stem, self.stem_width)}{positions}"
        lines = [
            f"image    {image}, convolutions {'with' if self.bias else 'without'} bias{init}",
            f"stem     {self.stem_grid}x{self.stem_grid}, w={self.stem_width}: {stem}",
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
        words = [
            spell(self.last, self.stages[-1].width),
            self.head.pool,
            spell(self.head_norm, self.channels),
            f"linear:{self.num_classes}{bias}{scale}",
        ]
        return " ".join(word for word in words if word)


def resolve(arch: Arch, size: Size, image_size: int, num_classes: int) -> Blueprint | TimmPlan:
    """The blueprint of `arch` at `size` for images of side `image_size` (pixels). Raises ConfigError.

    A list by stage may be longer than the net has stages; `warnings` says where a table loses entries by that,
    where a kernel is larger than its map, and where a stem or a final map is down to 1x1. A net of timm's resolves to
    a timm_net.TimmPlan.
    """
    if arch.timm is not None:
        from minuteloop.nets.timm_adapter import resolve_timm  # torch and timm take seconds to import

        return resolve_timm(arch, size, image_size, num_classes)
    table, count = arch.stages, len(arch.stages.widths)
    if table.keep != "all":
        count = min(count, table.keep)
    _check_early(arch.early)
    warnings = []
    for key in ("widths", "depths", "strides"):
        entries = getattr(table, key)
        least = 0 if key == "depths" else 1  # a stage may be its transition alone
        if not entries or min(entries) < least:
            raise ConfigError(f"arch.stages.{key}={entries}: not a list of whole numbers from {least} on")
        if len(entries) < count:
            raise ConfigError(f"arch.stages.{key} has {len(entries)} entries, but {arch.name} has {count} stages")
        if len(entries) > count and table.keep == "all":
            warnings.append(f"arch.stages.{key}: only the first {count} of {len(entries)} entries are used")
    published = [arch.stem.stride, *table.strides[:count]]
    stem_stride, *strides = _strides(published, size.reduce, image_size // table.last_grid)

    stem_width = _width(arch.stem.width, table.widen, size)
    knobs = [_at_stage(arch, i, count) for i in range(count)]
    stem = parse(_stem(arch.stem.kind, stem_stride, knobs[0]), knobs[0], 3, stem_width, stem_stride)
    if all(op.kernel == 1 for op in stem):
        warnings.append("stem: reads single pixels (1x1); a larger size.reduce gives it patches")
    resize = size.gamma**size.phi
    stem_grid = grid = grid_out(stem, int(image_size * resize))
    c = channels_out(stem, 3)

    stages, variance = [], 1.0
    for i, stride in enumerate(strides):
        width, depth = _width(table.widths[i], table.widen, size), _depth(table.depths[i], size, i)
        stage, variance = _stage(knobs[i], table.transition, c, width, depth, stride, grid, variance)
        c, grid = stage.channels, stage.grid
        if grid < 1:
            raise ConfigError(f"stage {i + 1}: nothing is left of a {image_size}x{image_size} image; lower size.reduce")
        kernel = max((op.kernel for block in stage.blocks[-1:] for op in block.ops), default=1)
        if kernel > grid:
            warnings.append(f"stage {i + 1}: kernel {kernel} is larger than its {grid}x{grid} grid")
        stages.append(stage)
    if grid == 1:
        warnings.append(f"stage {count}: final map is 1x1")

    last = ""
    if arch.head.width and arch.head.norm == "before":
        raise ConfigError("arch.head.norm=before: the convolution of arch.head.width has a norm of its own")
    if arch.head.width:
        last = f"pw:{_width(arch.head.width, 1.0, size)} norm act"
    elif arch.head.norm == "before":
        last = "norm act" if knobs[-1].acts == "all" else "norm"
    last = parse(last, knobs[-1], c, stages[-1].width)

    return Blueprint(
        image_size=image_size,
        resize=resize,
        num_classes=num_classes,
        bias=arch.block.bias,
        init=arch.block.init,
        weight=arch.block.weight,
        zero_init_last=arch.block.zero_init_last and any(b.shortcut is not None for s in stages for b in s.blocks),
        stem=stem,
        stem_width=stem_width,
        stem_grid=stem_grid,
        positions=arch.positions,
        stages=tuple(stages),
        head=arch.head,
        last=last,
        head_norm=parse("norm" if arch.head.norm == "after" else "", knobs[-1], channels_out(last, c), c),
        warnings=tuple(warnings),
    )


def _stem(kind: str, stride: int, block: Block) -> str:
    """The stem's program: `kind` is one, or a word of STEMS. Raises ConfigError."""
    words = [word for word in STEMS if isinstance(word, str)]
    if re.fullmatch("[a-z_]+", kind) and kind not in words:
        raise ConfigError(f"arch.stem.kind={kind}, neither a word nor a program{did_you_mean(kind, words)}")
    tokens = (STEMS.get((kind, stride)) or STEMS.get(kind, kind)).split()
    if block.order == "pre" and kind in words:  # ends bare: the first block begins with norm and act
        last = max(i for i, token in enumerate(tokens) if ":" in token)
        tokens = [token for i, token in enumerate(tokens) if i < last or token not in ("norm", "act")]
    program = " ".join(tokens)
    return program.replace("maxpool3/2", "maxpool3 blur/2") if block.antialias else program


def _check_early(early: dict) -> None:
    """Raises ConfigError."""
    knobs = [knob.name for knob in fields(Block)]
    for key in early:
        if key not in knobs:
            raise ConfigError(f"arch.early.{key}: block has no such knob{did_you_mean(key, knobs)}")
    check(Block(**early), "arch.early.")


def _stage(
    knobs: Block, transition: str, c: int, w: int, depth: int, stride: int, grid: int, variance: float
) -> tuple[StagePlan, float]:
    """A stage `w` channels wide, entered by `c` channels on a map of side `grid` and of a variance; the variance that
    leaves it. Raises ConfigError."""
    between = parse(transition, knobs, c, w, stride) if transition and stride > 1 else ()
    if between:
        c, grid, stride = channels_out(between, c), grid_out(between, grid), 1
    blocks = []
    for n in range(depth):
        blocks.append(resolve_block(knobs, c, w, 1 if n else stride, grid, n, variance))
        c, grid = channels_out(blocks[-1].ops, c), grid_out(blocks[-1].ops, grid)
        variance = (variance if n else 1.0) + knobs.alpha**2  # a projection resets it (Brock 2021, sec. 2)
    if not (between or blocks):
        raise ConfigError("arch.stages.depths: a stage of 0 blocks needs a transition and a stride above 1")
    return StagePlan(w, grid, between, tuple(blocks), c), variance


def _strides(strides: list[int], reduce: int | str, auto: int) -> list[int]:
    """The stem's and the stages' strides for a total of `reduce`, or their own where that is less.

    auto = at most 32 and `auto`: 8 at 32 pixels for a last map of 4x4.
    """
    total = math.prod(strides)
    if reduce == "auto":
        reduce = max(n for n in range(1, max(1, min(32, auto)) + 1) if total % n == 0)
    reduce = min(reduce, total)
    return drop(strides, reduce, f"size.reduce={reduce}")


def _width(width: int, widen: float, size: Size) -> int:
    """The paper's width, exact; at another size a multiple of 8 not below 90 % of it (Sandler 2018, released code)."""
    width, factor = int(width * widen), size.width * size.beta**size.phi
    if factor == 1:
        return width
    scaled = width * factor
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


def _depth(depth: int, size: Size, i: int) -> int:
    """Blocks, rounded up (Tan 2019, released code); 0.01 below, so that 0.667 x 9 is 6."""
    return max(min(1, depth), math.ceil(_entry(size.depth, i) * size.alpha**size.phi * depth - 0.01))


def _entry(value: object, i: int) -> object:
    """One value for all stages, or a list by stage whose last entry repeats."""
    return value[min(i, len(value) - 1)] if isinstance(value, list) else value


def _at_stage(arch: Arch, i: int, count: int) -> Block:
    early = arch.early if i < count // 2 else {}
    block = replace(arch.block, **early)
    return replace(block, **{knob.name: _entry(getattr(block, knob.name), i) for knob in fields(block)})
