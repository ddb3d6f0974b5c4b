"""The language nets are written in: stem, transitions, branches and shortcuts are programs, lines of tokens.

    conv3/2:4w    3x3 convolution, /stride, :channels; without channels it keeps those it gets
    conv3g32:w    in 32 groups; gw8 = groups 8 channels wide (their number is a gcd, so that it divides both channels)
    pw:w  dw7/2   pointwise (1x1) and depthwise convolution; dw always keeps its channels
    whiten2:24    convolution whose frozen filters whiten the patches of the images; its bias is learned
    bn ln relu gelu maxpool3/2    as they say; `norm` and `act` stand for the block's own
    {s}           in a stem or a transition: the stride it has to make

Channels are a number or a multiple of w (the width of the stage) or c (the channels that enter the program).
Stems and transitions are written in it directly; a block's program is generated from its knobs. No torch here.
"""

import math
import re
from dataclasses import dataclass, replace

from minuteloop.schema import Block, ConfigError, nearest

# token -> the arguments it may take; a kernel it must have
TOKENS = {
    "conv": ("kernel", "groups", "stride", "channels"),
    "pw": ("groups", "stride", "channels"),
    "dw": ("kernel", "stride"),
    "whiten": ("kernel", "stride", "channels"),
    "maxpool": ("kernel", "stride"),
    "bn": (),
    "ln": (),
    "relu": (),
    "gelu": (),
}
_TOKEN = re.compile(
    r"(?P<name>[a-z]+?)(?P<kernel>[1-9]\d*)?(g(?P<groups>w?[1-9]\d*))?(/(?P<stride>[1-9]\d*))?(:(?P<channels>[\d.]*[wc]?))?"
)


@dataclass(frozen=True)
class Op:
    """One operation on [N, c_in, H, W]. `kind` is a key of ops.MODULES; pw and dw are kinds of conv."""

    kind: str
    c_in: int
    c_out: int
    kernel: int = 1  # pixels
    stride: int = 1  # pixels
    groups: int = 1
    bias: bool = False

    @property
    def padding(self) -> int:
        return 0 if self.kernel == self.stride else (self.kernel - 1) // 2

    def token(self, w: int) -> str:
        """The token that makes this operation, its channels as a multiple of `w` where that is exact."""
        stride = f"/{self.stride}" if self.stride > 1 else ""
        if self.kind == "whiten":
            return f"whiten{self.kernel}{stride}:{self.c_out}"
        if self.kind != "conv":
            return self.kind + (f"{self.kernel}{stride}" if "kernel" in TOKENS[self.kind] else "")
        if self.groups == self.c_in == self.c_out > 1:
            return f"dw{self.kernel}{stride}"
        name = "pw" if self.kernel == 1 else f"conv{self.kernel}"
        groups = f"g{self.groups}" if self.groups > 1 else ""
        factor = f"{round(self.c_out / w, 3):g}"
        multiple = "w" if factor == "1" else f"{factor}w"
        return f"{name}{groups}{stride}:{multiple if float(factor) * w == self.c_out else self.c_out}"


Program = tuple[Op, ...]


def spell(program: Program, w: int) -> str:
    """The program as a line of tokens, for a stage `w` channels wide: equal lines are equal operations."""
    return " ".join(op.token(w) for op in program)


def channels_out(program: Program, c: int) -> int:
    """Channels after a program that `c` channels enter."""
    return program[-1].c_out if program else c


def grid_out(program: Program, grid: int) -> int:
    """Side of the map (pixels) after a program that reads a map of side `grid`."""
    for op in program:
        grid = (grid + 2 * op.padding - op.kernel) // op.stride + 1
    return grid


def drop(strides: list[int], total: int, where: str) -> list[int]:
    """`strides` less what has to go, from the front, for their product to be `total`. Raises ConfigError."""
    excess, remainder = divmod(math.prod(strides), total)
    if remainder:
        product = " x ".join(map(str, strides))
        raise ConfigError(f"{where}: dropping strides from {product} cannot give a total of {total}")
    kept = []
    for stride in strides:
        shared = math.gcd(stride, excess)
        kept.append(stride // shared)
        excess //= shared
    return kept


def channels(text: str, c: int, w: int) -> int:
    """'4w', '0.25c' or '64' as a number of channels. Raises ConfigError."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+|(?=[wc]))([wc]?)", text)
    number = round(float(match[1] or 1) * {"w": w, "c": c, "": 1}[match[2]]) if match else 0
    if number < 1:
        raise ConfigError(f"'{text}' is not a number of channels such as 4w, 0.5c or 64")
    return number


def parse(program: str, block: Block, c: int, w: int, stride: int | None = None) -> Program:
    """The operations of `program` for a stage `w` channels wide, entered by `c` channels.

    `block` says what norm, act and bias are. With `stride`, {s} is that stride, and strides written as numbers are
    left out from the front until their product is `stride`. Raises ConfigError for anything that is not the language.
    """
    words = {"norm": block.norm, "act": block.act}
    ops = []
    for token in program.replace("{s}", str(stride)).split():
        token = words.get(token, token)
        match = _TOKEN.fullmatch(token)
        name = match["name"] if match else token
        if name not in TOKENS:
            raise ConfigError(f"unknown token {token} in program '{program}'{nearest(name, [*TOKENS, *words])}")
        given = {key: match[key] for key in ("kernel", "groups", "stride", "channels") if match[key] is not None}
        if not set(given) <= set(TOKENS[name]) or ("kernel" in TOKENS[name]) != ("kernel" in given):
            takes = ", ".join(TOKENS[name]) or "no arguments"
            raise ConfigError(f"token {token} in program '{program}': {name} takes {takes}")
        c_in = channels_out(ops, c)
        c_out = channels(given["channels"], c, w) if "channels" in given else c_in
        groups = given.get("groups", "1")
        asked = c_in if name == "dw" else max(1, c_out // int(groups[1:])) if groups[0] == "w" else int(groups)
        if name == "whiten" and (c_out % 2 or c_out > 2 * c_in * int(given["kernel"]) ** 2):
            most = 2 * c_in * int(given["kernel"]) ** 2
            raise ConfigError(f"token {token} in program '{program}': not an even number of at most {most} filters")
        convolves = name in ("conv", "pw", "dw")
        ops.append(
            Op(
                kind="conv" if convolves else name,
                c_in=c_in,
                c_out=c_out,
                kernel=int(given.get("kernel", 1)),
                stride=int(given.get("stride", 1)),
                groups=math.gcd(asked, c_in, c_out),
                bias=convolves and block.bias,
            )
        )
    if stride is not None:
        strides = drop([op.stride for op in ops], stride, f"program '{program}'")
        ops = [replace(op, stride=kept) for op, kept in zip(ops, strides, strict=True)]
    return tuple(ops)


def branch(block: Block, c: int, w: int, stride: int) -> str:
    """The program that a block's knobs mean, such as 'dw7 norm pw:4w act pw:w'.

    The last 1 or K goes to `outer`, those before it to `inner`. k keeps its channels; only a k that is not depthwise
    and stands first goes to `inner`, where that is narrower than `outer`. The first k or K takes the stride.
    """
    letters = block.layout.split()
    last = len(letters) - 1
    mixer = next((i for i, letter in enumerate(letters) if letter in "kK"), 0)
    widest = max((i for i, letter in enumerate(letters) if letter in "1K"), default=None)
    if widest is None:
        raise ConfigError(f"arch.block.layout={block.layout}: without a 1 or K nothing sets the block's width")
    groups = "" if str(block.groups) == "1" else f"g{block.groups}"
    narrows = channels(block.inner, c, w) < channels(block.outer, c, w)
    tokens = []
    for i, letter in enumerate(letters):
        slash = f"/{stride}" if stride > 1 and i == mixer else ""
        target = block.outer if i == widest else block.inner
        if letter == "1":
            tokens.append(f"pw{slash}:{target}")
        elif letter == "K":
            tokens.append(f"conv{block.kernel}{slash}:{target}")
        elif block.groups == "dw":
            tokens.append(f"dw{block.kernel}{slash}")
        else:
            tokens.append(f"conv{block.kernel}{groups}{slash}" + (f":{block.inner}" if i == 0 and narrows else ""))
        if block.norms == "all" or i == mixer:
            tokens.append("norm")
        if {"all": i < last, "branch": True, "one": i == max(last - 1, 0)}[block.acts]:
            tokens.append("act")
    return " ".join(tokens)
