"""Generate a block's programs from its knobs: branches, shortcut, and what they share. Imports no torch."""

from dataclasses import dataclass, replace

from minuteloop.arch_schema import Block
from minuteloop.nets.program import (
    ACT_TOKENS,
    NORM_TOKENS,
    Op,
    Program,
    channels_out,
    parse,
    parse_channels,
    resolution_out,
    spell,
    window_size,
)
from minuteloop.validation import ConfigError


@dataclass(frozen=True)
class BlockSpec:
    """act(shortcut(x) + branch(x)); further branches each have a sum of their own. Without a shortcut, no sum.

    With `pre`, the branch and a shortcut that is not the identity read pre(x).
    """

    pre: Program
    branches: tuple[Program, ...]
    shortcut: Program | None  # empty = identity, None = no sum
    act: Program  # after the last sum; empty = none
    layer_scale: float  # initial value on each branch; 0 = none

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operations of all branches."""
        return sum(self.branches, ())

    def text(self, w: int) -> str:
        """Return the block's programs as one line, in a stage `w` channels wide."""
        scale = f" scale={self.layer_scale:g}" if self.layer_scale else ""
        first, *others = (f"{spell(branch, w)}{scale}" for branch in self.branches)
        plus = "" if self.shortcut is None else f" + {spell(self.shortcut, w) or 'x'}"
        pre = spell(self.pre, w)
        body = f"{pre} ({first}{plus})" if pre and self.shortcut else f"{pre} {first}{plus}".lstrip()
        act = f", then {spell(self.act, w)}" if self.act else ""
        return " | ".join([body, *(f"{other} + x" for other in others)]) + act


def resolve_block(knobs: Block, c: int, w: int, stride: int, resolution: int, index: int, variance: float) -> BlockSpec:
    """Return block `index` of a stage `w` channels wide.

    Its input has `c` channels, a resolution (pixels) and, in nets without norms, a variance. Raises ConfigError.
    """
    _check_knobs(knobs)
    pre, branches = _resolve_branches(knobs, c, w, stride, index, variance)
    out = channels_out(branches[0], c)
    for branch in branches[1:]:
        if channels_out(branch, out) != out:
            raise ConfigError(
                f"arch.block.layout={knobs.layout}: every branch after the first must keep its {out} channels, "
                f"got {channels_out(branch, out)}; set arch.stages.transition to change width between stages"
            )
    shortcut = None if knobs.shortcut == "none" else ()
    if shortcut is not None and (stride > 1 or out != c):
        shortcut = _resolve_projection(knobs, out, stride, c, w)
    if shortcut is not None and resolution_out(branches[0], resolution) != resolution_out(shortcut, resolution):
        raise ConfigError(f"arch.block.kernel={knobs.kernel}: must be odd, or the branch is smaller than the shortcut")
    window = max(op.window for branch in branches for op in branch)
    if window and window_size(resolution, window) == 1 < resolution:
        raise ConfigError(
            f"arch.block.kernel={knobs.kernel}: no attention window of 2 to {window} pixels divides the "
            f"{resolution}x{resolution} feature map"
        )
    act = parse("act", knobs, out, w) if knobs.acts == "all" and knobs.order == "post" else ()
    return BlockSpec(pre, branches, shortcut, act, knobs.layer_scale)


def _check_knobs(knobs: Block) -> None:
    """Reject combinations that no block can have. Raises ConfigError."""
    if knobs.norm == "none" and knobs.weight != "scaled":
        raise ConfigError(f"arch.block.weight={knobs.weight}: must be scaled where arch.block.norm=none (it overflows)")
    if knobs.alpha and knobs.order != "pre":
        raise ConfigError(f"arch.block.order={knobs.order}: must be pre where arch.block.alpha is set")
    if knobs.mixer == "conv" and not knobs.kernel:
        raise ConfigError("arch.block.kernel=0: must be >= 1 where arch.block.mixer=conv (0 is global attention)")
    if "|" in knobs.layout and knobs.shortcut == "none":
        raise ConfigError(
            f"arch.block.shortcut=none: must be conv, avg or identity with several branches (layout={knobs.layout})"
        )


def _resolve_branches(
    knobs: Block, c: int, w: int, stride: int, index: int, variance: float
) -> tuple[Program, tuple[Program, ...]]:
    """Return what the branch shares with the shortcut, and the branches."""
    pre, branches, width = (), [], c
    for text in branch_texts(knobs, c, w, stride, index):
        text += f" times:{knobs.alpha}" if knobs.alpha else ""
        branches.append(parse(text, knobs, width, w))
        width = channels_out(branches[-1], c)
    if knobs.order == "pre":
        first = next(i for i, op in enumerate(branches[0]) if op.kind not in (*NORM_TOKENS, *ACT_TOKENS))
        pre, branches[0] = branches[0][:first], branches[0][first:]
        if knobs.alpha and variance != 1:
            pre += parse(f"times:{variance**-0.5!r}", knobs, c, w)
    return pre, tuple(branches)


def _resolve_projection(knobs: Block, out: int, stride: int, c: int, w: int) -> Program | None:
    """Return the shortcut where the shape changes; None = no sum."""
    norm = " norm" if knobs.order == "post" else ""
    if knobs.shortcut == "identity":
        return None
    if knobs.shortcut == "avg" and stride > 1:
        return parse(f"avgpool{stride}/{stride} pw:{out}{norm}", knobs, c, w)
    return parse(f"pw{_slash(stride)}:{out}{norm}", knobs, c, w)


def branch_texts(block: Block, c: int, w: int, stride: int, index: int = 0) -> list[str]:
    """Return the program of each branch, such as ['dw7 norm pw:4w act pw:w'].

    The last 1 or K of a branch has width `outer`, those before it `inner`. k keeps its width, except for a k that is
    first and not depthwise: it narrows to `inner` where that is below `outer`. The first k or K takes the stride.
    `index` is the block's place in its stage: every other block shifts its attention windows.
    """
    parts = [part.split() for part in block.layout.split("|")]
    if not any(letter in "1K" for letters in parts for letter in letters):
        raise ConfigError(f"arch.block.layout={block.layout}: must contain a 1 or a K, which set the block's width")
    ungated = replace(block, gate="none")
    return [
        _branch_text(block if n == len(parts) - 1 else ungated, letters, c, w, 1 if n else stride, index)
        for n, letters in enumerate(parts)
    ]


def _branch_text(block: Block, letters: list[str], c: int, w: int, stride: int, index: int) -> str:
    last, gate = len(letters) - 1, _gate_tokens(block)
    mixer = next((i for i, letter in enumerate(letters) if letter in "kK"), 0)
    outer = max((i for i, letter in enumerate(letters) if letter in "1K"), default=None)
    gate_at = last if block.gate_at == "inner" and last > 0 else None  # None = the end
    tokens = []
    for i, letter in enumerate(letters):
        own_stride = stride if i == mixer else 1
        is_blurred = block.antialias and own_stride > 1
        convolution = _convolution_token(
            block, letter, i == 0, i == outer, c, w, _slash(1 if is_blurred else own_stride), index
        )
        norm = "norm" if _has_norm(block, i, mixer) else ""
        act = "act" if _has_act(block, i, last) else ""
        if i == gate_at:
            tokens.append(gate)
        tokens += [norm, act, convolution] if block.order == "pre" else [convolution, norm, act]
        if is_blurred:
            tokens.append(f"blur/{own_stride}")
    if gate_at is None:
        tokens.append(gate)
    return " ".join(token for token in tokens if token)


def _has_norm(block: Block, i: int, mixer: int) -> bool:
    """Whether convolution `i` of a branch has a norm."""
    return block.norms == "all" or i == (0 if block.order == "pre" else mixer)


def _has_act(block: Block, i: int, last: int) -> bool:
    """Whether convolution `i` of a branch has an activation: before it with order=pre, else after it."""
    if block.acts == "one":  # between the last two convolutions
        return 0 < i == last if block.order == "pre" else i == max(last - 1, 0)
    return block.order == "pre" or block.acts == "branch" or i < last


def _convolution_token(
    block: Block, letter: str, is_first: bool, is_outer: bool, c: int, w: int, slash: str, index: int
) -> str:
    """Return the token of one letter of a layout."""
    width = block.outer if is_outer else block.inner
    if letter == "1":
        return f"pw{slash}:{width}"
    if letter == "K":
        return f"conv{block.kernel}{slash}:{width}"
    if block.mixer == "attn":
        if slash:
            raise ConfigError("arch.block.mixer=attn: attention keeps its resolution; set arch.stages.transition")
        return f"{'s' if index % 2 else 'w'}attn{block.kernel}" if block.kernel else "attn"
    if block.groups == "dw":
        return f"dw{block.kernel}{slash}"
    groups = "" if str(block.groups) == "1" else f"g{block.groups}"
    narrows = is_first and parse_channels(block.inner, c, w) < parse_channels(block.outer, c, w)
    return f"conv{block.kernel}{groups}{slash}" + (f":{block.inner}" if narrows else "")


def _slash(stride: int) -> str:
    return f"/{stride}" if stride > 1 else ""


def _gate_tokens(block: Block) -> str:
    """Return the gate; a scaled net doubles its squeeze-and-excite (Brock 2021, released code)."""
    if block.gate == "none":
        return ""
    return f"{block.gate} times:2" if block.gate.startswith("se") and block.weight == "scaled" else block.gate
