"""A block's knobs become programs: its branches, its shortcut, and what they share. No torch here."""

from dataclasses import dataclass, replace

from minuteloop.nets.program import (
    ACT_TOKENS,
    NORM_TOKENS,
    Op,
    Program,
    channels,
    channels_out,
    grid_out,
    parse,
    spell,
)
from minuteloop.schema import Block
from minuteloop.validation import ConfigError


@dataclass(frozen=True)
class BlockPlan:
    """act(shortcut(x) + branch(x)), and where there are more branches each with a sum of its own; or without a sum.

    With `pre`, the branch and a shortcut that is not the identity read pre(x).
    """

    pre: Program
    branches: tuple[Program, ...]
    shortcut: Program | None  # empty = identity, None = no sum
    act: Program  # on the last sum; empty = none
    layer_scale: float  # on each branch, its initial value; 0 = none

    @property
    def ops(self) -> tuple[Op, ...]:
        """Of the branches."""
        return sum(self.branches, ())

    def text(self, w: int) -> str:
        """The block in words, at a stage `w` channels wide."""
        scale = f" scale={self.layer_scale:g}" if self.layer_scale else ""
        first, *others = (f"{spell(branch, w)}{scale}" for branch in self.branches)
        plus = "" if self.shortcut is None else f" + {spell(self.shortcut, w) or 'x'}"
        pre = spell(self.pre, w)
        body = f"{pre} ({first}{plus})" if pre and self.shortcut else f"{pre} {first}{plus}".lstrip()
        act = f", then {spell(self.act, w)}" if self.act else ""
        return " | ".join([body, *(f"{other} + x" for other in others)]) + act


def resolve_block(knobs: Block, c: int, w: int, stride: int, grid: int, number: int, variance: float) -> BlockPlan:
    """The `number`-th block of a stage `w` channels wide, entered by `c` channels on a map of side `grid` whose
    variance is `variance` (of nets without norms). Raises ConfigError."""
    _refuse(knobs)
    pre, branches = (), []
    for text in branch_texts(knobs, c, w, stride, number):
        text += f" times:{knobs.alpha}" if knobs.alpha else ""
        branches.append(parse(text, knobs, channels_out(branches[-1], c) if branches else c, w))
    if knobs.order == "pre":
        first = next(i for i, op in enumerate(branches[0]) if op.kind not in (*NORM_TOKENS, *ACT_TOKENS))
        pre, branches[0] = branches[0][:first], branches[0][first:]
        pre += parse(f"times:{variance**-0.5!r}", knobs, c, w) if knobs.alpha and variance != 1 else ()
    out = channels_out(branches[0], c)
    for other in branches[1:]:
        if channels_out(other, out) != out:
            raise ConfigError(
                f"arch.block.layout={knobs.layout}: a later branch goes from {out} to {channels_out(other, out)} "
                "channels, which its sum cannot; arch.stages.transition changes them between stages"
            )
    shortcut = None if knobs.shortcut == "none" else ()
    if shortcut is not None and (stride > 1 or out != c):
        shortcut = _projection(knobs, out, stride, c, w)
    if shortcut is not None and grid_out(branches[0], grid) != grid_out(shortcut, grid):
        raise ConfigError(
            f"arch.block.kernel={knobs.kernel}: the branch ends on a smaller map than the shortcut; take an odd kernel"
        )
    act = parse("act", knobs, out, w) if knobs.acts == "all" and knobs.order == "post" else ()
    return BlockPlan(pre, tuple(branches), shortcut, act, knobs.layer_scale)


def _projection(knobs: Block, out: int, stride: int, c: int, w: int) -> Program | None:
    norm = " norm" if knobs.order == "post" else ""
    if knobs.shortcut == "identity":
        return None
    if knobs.shortcut == "avg" and stride > 1:
        return parse(f"avgpool{stride}/{stride} pw:{out}{norm}", knobs, c, w)
    return parse(f"pw{f'/{stride}' if stride > 1 else ''}:{out}{norm}", knobs, c, w)


def _refuse(knobs: Block) -> None:
    """What no block can be. Raises ConfigError."""
    if knobs.norm == "none" and knobs.weight != "scaled":
        raise ConfigError(f"arch.block.weight={knobs.weight}: a net without norms overflows unless it is scaled")
    if knobs.alpha and knobs.order != "pre":
        raise ConfigError("arch.block.alpha: a net without norms needs arch.block.order=pre")
    if knobs.mixer == "conv" and not knobs.kernel:
        raise ConfigError("arch.block.kernel=0: only attention (arch.block.mixer=attn) reads all pixels")
    if "|" in knobs.layout and knobs.shortcut == "none":
        raise ConfigError(f"arch.block.layout={knobs.layout}: two branches need sums (arch.block.shortcut=identity)")


def branch_texts(block: Block, c: int, w: int, stride: int, number: int = 0) -> list[str]:
    """The programs that a block's knobs mean, such as ['dw7 norm pw:4w act pw:w']: one for each sum.

    The last 1 or K of a branch goes to `outer`, those before it to `inner`. k keeps its channels; only a k that is not
    depthwise and stands first goes to `inner`, where that is narrower than `outer`. The first k or K takes the stride.
    `number` is the block's place in its stage: the windows of every other block are shifted.
    """
    parts = [part.split() for part in block.layout.split("|")]
    if not any(letter in "1K" for letters in parts for letter in letters):
        raise ConfigError(f"arch.block.layout={block.layout}: without a 1 or K nothing sets the block's width")
    ungated = replace(block, gate="none")
    return [
        _branch(block if n == len(parts) - 1 else ungated, letters, c, w, 1 if n else stride, number)
        for n, letters in enumerate(parts)
    ]


def _branch(block: Block, letters: list[str], c: int, w: int, stride: int, number: int) -> str:
    last, pre = len(letters) - 1, block.order == "pre"
    mixer = next((i for i, letter in enumerate(letters) if letter in "kK"), 0)
    widest = max((i for i, letter in enumerate(letters) if letter in "1K"), default=None)
    tokens = []
    for i, letter in enumerate(letters):
        normed = block.norms == "all" or i == (0 if pre else mixer)
        if block.acts == "one":
            acted = 0 < i == last if pre else i == max(last - 1, 0)
        else:
            acted = pre or block.acts == "branch" or i < last
        around = ["norm"] * normed + ["act"] * acted
        blurs = block.antialias and stride > 1 and i == mixer
        if i == last > 0 and block.gate_at == "inner":
            tokens.append(_gate(block))
        slash = f"/{stride}" if stride > 1 and i == mixer and not blurs else ""
        op = _convolution(block, letter, i, i == widest, c, w, slash, number)
        tokens += [*around, op] if pre else [op, *around]
        tokens += [f"blur/{stride}"] * blurs
    if block.gate_at == "end" or last == 0:
        tokens.append(_gate(block))
    return " ".join(token for token in tokens if token)


def _convolution(block: Block, letter: str, i: int, is_last: bool, c: int, w: int, slash: str, number: int) -> str:
    """The token of a layout's letter, the i-th of its branch."""
    target = block.outer if is_last else block.inner
    if letter == "1":
        return f"pw{slash}:{target}"
    if letter == "K":
        return f"conv{block.kernel}{slash}:{target}"
    if block.mixer == "attn":
        if slash:
            raise ConfigError("arch.block.mixer=attn: attention keeps its grid; set arch.stages.transition")
        return f"{'s' if number % 2 else 'w'}attn{block.kernel}" if block.kernel else "attn"
    if block.groups == "dw":
        return f"dw{block.kernel}{slash}"
    groups = "" if str(block.groups) == "1" else f"g{block.groups}"
    narrows = i == 0 and channels(block.inner, c, w) < channels(block.outer, c, w)
    return f"conv{block.kernel}{groups}{slash}" + (f":{block.inner}" if narrows else "")


def _gate(block: Block) -> str:
    """A scaled net's squeeze-and-excite counts twice (Brock 2021, released code)."""
    if block.gate == "none":
        return ""
    return f"{block.gate} times:2" if block.gate.startswith("se") and block.weight == "scaled" else block.gate
