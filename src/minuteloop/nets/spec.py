"""Resolve an arch, a size and an image size to the programs of a complete net.

Steps set the paper's numbers; the size multiplies them afterwards, and strides are dropped until the net fits the
image. Imports no torch, so that config errors appear before anything heavy loads.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from minuteloop.arch_schema import Arch, Block, Head, Size
from minuteloop.nets.block import BlockSpec, resolve_block
from minuteloop.nets.program import Program, channels_out, parse, resolution_out, spell
from minuteloop.nets.stems import resolve_stem, smallest_stride
from minuteloop.nets.strides import fit_strides
from minuteloop.validation import ConfigError, check, did_you_mean

if TYPE_CHECKING:
    from minuteloop.nets.timm_adapter import TimmSpec


MAX_ENTRY = {"widths": 65536, "depths": 1000, "strides": 64}  # of the stage table; more is a typing error


@dataclass(frozen=True)
class StageSpec:
    """A resolved stage: its transition and its blocks."""

    width: int  # w of its programs, channels
    resolution: int  # of its feature maps, pixels
    transition: Program  # empty = the first block strides
    blocks: tuple[BlockSpec, ...]
    channels: int  # of its output


@dataclass(frozen=True)
class NetSpec:
    """A resolved net: everything that building it needs."""

    image_size: int  # pixels
    resize: float  # factor on the image size before the stem
    num_classes: int
    bias: bool  # of the convolutions
    init: str  # of the convolutions: a value of schema.Block.init
    weight: str  # of the convolutions: a value of schema.Block.weight
    zero_init_last: bool  # the last weights of every branch that has a shortcut start at 0
    stem: Program
    stem_width: int
    stem_resolution: int  # pixels
    positions: bool
    stages: tuple[StageSpec, ...]
    head: Head
    last: Program  # before the global pool
    head_norm: Program  # between the global pool and the classifier
    published_strides: tuple[int, ...] = field(compare=False)  # of the stem and the stages
    used_strides: tuple[int, ...] = field(compare=False)  # the same, as size.reduce leaves them
    warnings: tuple[str, ...] = field(compare=False)

    @property
    def channels(self) -> int:
        """The width of the classifier's input."""
        return channels_out(self.last, self.stages[-1].channels)

    @property
    def strides(self) -> list[int]:
        """The total stride of each stage's feature maps, in pixels of the (resized) image."""
        total, totals = math.prod(op.stride for op in self.stem), []
        for stage in self.stages:
            branches = (op for block in stage.blocks for op in block.branches[0])
            total *= math.prod(op.stride for op in (*stage.transition, *branches))
            totals.append(total)
        return totals

    def text(self) -> str:
        """Return the net as text; equal texts mean equal nets."""
        image = f"{self.image_size}x{self.image_size}"
        image += "" if self.resize == 1 else f" resized by {self.resize:.3f}"
        init = "" if self.init == "normal" else f", {self.init} weights"
        init += "" if self.weight == "plain" else f", {self.weight} weights"
        init += ", branches begin at 0" if self.zero_init_last else ""
        positions = " + positions" if self.positions else ""
        stem = f"{spell(self.stem, self.stem_width)}{positions}"
        lines = [
            f"image    {image}, convolutions {'with' if self.bias else 'without'} bias{init}",
            f"stem     {self.stem_resolution}x{self.stem_resolution}, w={self.stem_width}: {stem}",
        ]
        for number, stage in enumerate(self.stages, 1):
            lines.append(f"stage {number}  {stage.resolution}x{stage.resolution}, w={stage.width}")
            if stage.transition:
                lines.append(f"     ->  {spell(stage.transition, stage.width)}")
            for line, run in itertools.groupby(block.text(stage.width) for block in stage.blocks):
                lines.append(f"{len(list(run)):5} x  {line}")
        lines.append(f"head     {self.head_text()}")
        return "\n".join(lines)

    def head_text(self) -> str:
        """Return the head as one line."""
        bias = "" if self.head.bias else " without bias"
        scale = "" if self.head.scale == 1 else f" x {self.head.scale:g}"
        parts = [
            spell(self.last, self.stages[-1].width),
            self.head.pool,
            spell(self.head_norm, self.channels),
            f"linear:{self.num_classes}{bias}{scale}",
        ]
        return " ".join(part for part in parts if part)


def resolve(arch: Arch, size: Size, image_size: int, num_classes: int) -> NetSpec | TimmSpec:
    """Resolve `arch` at `size` for images of `image_size` pixels. A timm model resolves to a TimmSpec.

    `warnings` names unused entries of the stage table, and a stem or a final feature map of 1x1.

    Raises:
        ConfigError: if the arch is not valid or does not fit the image.
    """
    if arch.timm is not None:
        from minuteloop.nets.timm_adapter import resolve_timm  # torch and timm take seconds to import

        return resolve_timm(arch, size, image_size, num_classes)
    count, warnings = _check_table(arch)
    _check_early(arch.early)
    knobs = [_block_at_stage(arch, i, count) for i in range(count)]
    published = [arch.stem.stride, *arch.stages.strides[:count]]
    stem_width = _scale_width(arch.stem.width, arch.stages.widen, size)
    smallest = smallest_stride(arch.stem.kind, arch.stem.stride, knobs[0], stem_width)
    used = fit_strides(published, size.reduce, image_size // arch.stages.last_grid, smallest)
    if arch.stages.transition and max(published[1:]) > max(used[1:]) == 1:
        raise ConfigError(f"size.reduce={size.reduce}: must be larger, or arch.stages.transition never downsamples")
    stem = resolve_stem(arch.stem.kind, used[0], knobs[0], stem_width)
    resize = size.gamma**size.phi
    stem_resolution = resolution_out(stem, int(image_size * resize))
    strides = list(zip(published[1:], used[1:], strict=True))
    stages = _resolve_stages(arch, size, knobs, strides, channels_out(stem, 3), stem_resolution, image_size)
    last, head_norm = _resolve_head(arch.head, size, knobs[-1], stages[-1])
    return NetSpec(
        image_size=image_size,
        resize=resize,
        num_classes=num_classes,
        bias=arch.block.bias,
        init=arch.block.init,
        weight=arch.block.weight,
        zero_init_last=arch.block.zero_init_last and any(b.shortcut is not None for s in stages for b in s.blocks),
        stem=stem,
        stem_width=stem_width,
        stem_resolution=stem_resolution,
        positions=arch.positions,
        stages=stages,
        head=arch.head,
        last=last,
        head_norm=head_norm,
        published_strides=tuple(published),
        used_strides=tuple(used),
        warnings=(*warnings, *_resolution_warnings(stem, stages)),
    )


def _check_table(arch: Arch) -> tuple[int, list[str]]:
    """Return the number of stages and warnings about unused entries. Raises ConfigError."""
    table, count, warnings = arch.stages, len(arch.stages.widths), []
    if table.keep != "all":
        count = min(count, table.keep)
    for key in ("widths", "depths", "strides"):
        entries = getattr(table, key)
        least = 0 if key == "depths" else 1  # a stage may consist of its transition alone
        if not entries or min(entries) < least:
            raise ConfigError(f"arch.stages.{key}={entries}: must be a list of integers >= {least}")
        if max(entries) > MAX_ENTRY[key]:
            raise ConfigError(f"arch.stages.{key}={entries}: must be a list of integers <= {MAX_ENTRY[key]}")
        if len(entries) < count:
            raise ConfigError(f"arch.stages.{key}={entries}: must have an entry for each of {count} stages")
        if len(entries) > count and table.keep == "all":
            warnings.append(f"arch.stages.{key}: only the first {count} of {len(entries)} entries are used")
    return count, warnings


def _check_early(early: dict) -> None:
    """Check arch.early as block knobs. Raises ConfigError."""
    by_stage = {knob.name: knob.metadata.get("by_stage") for knob in fields(Block)}
    knobs = list(by_stage)
    for key, value in early.items():
        if key not in knobs:
            raise ConfigError(f"arch.early.{key}={value}: unknown key{did_you_mean(key, knobs)}")
        if isinstance(value, list) and not by_stage[key]:
            raise ConfigError(f"arch.early.{key}={value}: must be one value")
    check(Block(**early), "arch.early.")


def _resolve_stages(
    arch: Arch, size: Size, knobs: list[Block], strides: list[tuple], c: int, resolution: int, image_size: int
) -> tuple[StageSpec, ...]:
    """Return the stages for a stem output of `c` channels and a resolution (pixels).

    `strides` holds the (published, used) stride of each stage. Raises ConfigError.
    """
    stages, variance, table = [], 1.0, arch.stages
    for i, (published, stride) in enumerate(strides):
        width = _scale_width(table.widths[i], table.widen, size)
        depth = _scale_depth(table.depths[i], size, i)
        transition = table.transition if published > 1 else ""
        stage, variance = _resolve_stage(knobs[i], transition, c, width, depth, stride, resolution, variance)
        c, resolution = stage.channels, stage.resolution
        if resolution < 1:
            raise ConfigError(
                f"size.reduce={size.reduce}: must be smaller; stage {i + 1} has no pixels left of a "
                f"{image_size}x{image_size} image"
            )
        stages.append(stage)
    return tuple(stages)


def _resolve_stage(
    knobs: Block, transition: str, c: int, w: int, depth: int, stride: int, resolution: int, variance: float
) -> tuple[StageSpec, float]:
    """Return a stage `w` channels wide and the variance of its output.

    Its input has `c` channels, a resolution (pixels) and a variance. A transition whose stride was dropped only
    changes the width, as in timm's ConvNeXt without a stride. Raises ConfigError.
    """
    between = parse(transition, knobs, c, w, stride) if transition else ()
    if stride == 1 and channels_out(between, c) == c:
        between = ()
    if between:
        c, resolution, stride = channels_out(between, c), resolution_out(between, resolution), 1
    blocks = []
    for n in range(depth):
        blocks.append(resolve_block(knobs, c, w, 1 if n else stride, resolution, n, variance))
        c, resolution = channels_out(blocks[-1].ops, c), resolution_out(blocks[-1].ops, resolution)
        variance = (variance if n else 1.0) + knobs.alpha**2  # a projection resets it (Brock 2021, sec. 2)
    if not (between or blocks):
        raise ConfigError("arch.stages.depths: must be >= 1 for a stage without a transition that strides")
    return StageSpec(w, resolution, between, tuple(blocks), c), variance


def _resolve_head(head: Head, size: Size, block: Block, stage: StageSpec) -> tuple[Program, Program]:
    """Return the head's programs before and after the global pool. Raises ConfigError."""
    if head.width and head.norm == "before":
        raise ConfigError("arch.head.norm=before: must be none or after with arch.head.width, which has its own norm")
    text = ""
    if head.width:
        text = f"pw:{_scale_width(head.width, 1.0, size)} norm act"
    elif head.norm == "before":
        text = "norm act" if block.acts == "all" else "norm"
    last = parse(text, block, stage.channels, stage.width)
    norm = parse("norm" if head.norm == "after" else "", block, channels_out(last, stage.channels), stage.channels)
    return last, norm


def _resolution_warnings(stem: Program, stages: tuple[StageSpec, ...]) -> list[str]:
    warnings = []
    if all(op.kernel == 1 for op in stem):
        warnings.append("stem: each output pixel reads one image pixel")
    if stages[-1].resolution == 1:
        warnings.append(f"stage {len(stages)}: the final feature map is 1x1")
    return warnings


def _scale_width(width: int, widen: float, size: Size) -> int:
    """Return the paper's width; at another size a multiple of 8, at least 90 % of it (Sandler 2018, released code)."""
    width, factor = int(width * widen), size.width * size.beta**size.phi
    if factor == 1:
        return width
    scaled = width * factor
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


def _scale_depth(depth: int, size: Size, i: int) -> int:
    """Return the number of blocks, rounded up (Tan 2019, released code); less 0.01, so that 0.667 x 9 is 6."""
    return max(min(1, depth), math.ceil(_entry(size.depth, i) * size.alpha**size.phi * depth - 0.01))


def _entry(value: Any, i: int) -> Any:
    """Return the value for stage `i`: one value for all stages, or a list whose last entry repeats."""
    return value[min(i, len(value) - 1)] if isinstance(value, list) else value


def _block_at_stage(arch: Arch, i: int, count: int) -> Block:
    """Return the block's knobs for stage `i` of `count`."""
    early = arch.early if i < count // 2 else {}
    block = replace(arch.block, **early)
    values = {knob.name: _entry(getattr(block, knob.name), i) for knob in fields(block)}
    return replace(block, **values | {"layout": str(values["layout"])})  # YAML reads layout: 1 as a number
