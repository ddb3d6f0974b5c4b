"""The language nets are written in: stem, transitions, branches and shortcuts are programs, lines of tokens.

    conv3/2:4w    3x3 convolution, /stride, :channels; without channels it keeps those it gets
    conv3g32:w    in 32 groups; gw8 = groups 8 channels wide (their number is a gcd, so that it divides both channels)
    pw:w  dw7/2   pointwise (1x1) and depthwise convolution; dw always keeps its channels
    whiten2:24    convolution whose frozen filters whiten the patches of the images; its bias is learned
    attn  wattn7  sattn7    attention among all pixels, in windows of 7x7, in windows shifted by half of that
    se:0.25c eca ceca grn   channel gates; se's number is its squeezed width
    maxpool3/2 avgpool2/2 blur/2 unshuffle2    pooling, anti-aliasing, space to depth
    bn ln gn evob evos, relu gelu silu relu6 leaky    as they say; `norm` and `act` stand for the block's own. EvoNorm
                  is norm and act at once: evolinb and evolins are it without the act
    times:0.2     the maps times a number
    {s}           in a stem or a transition: the stride it has to make

Channels are a number or a multiple of w (the width of the stage) or c (the channels that enter the program).
Stems and transitions are written in it directly; a block's programs are generated from its knobs (block.py). No torch
here.
"""

import math
import re
from dataclasses import dataclass, replace

from minuteloop.schema import Block
from minuteloop.validation import ConfigError, did_you_mean

NORM_TOKENS = ("bn", "ln", "gn", "evob", "evos", "evolinb", "evolins")
ACT_TOKENS = ("relu", "gelu", "silu", "relu6", "leaky")
# token -> the arguments it may take; a kernel it must have
TOKENS = {
    "conv": ("kernel", "groups", "stride", "channels"),
    "pw": ("groups", "stride", "channels"),
    "dw": ("kernel", "stride"),
    "whiten": ("kernel", "stride", "channels"),
    "attn": (),
    "wattn": ("kernel",),
    "sattn": ("kernel",),
    "se": ("channels",),
    "maxpool": ("kernel", "stride"),
    "avgpool": ("kernel", "stride"),
    "blur": ("stride",),
    "unshuffle": ("kernel",),
    "times": ("channels",),
    **dict.fromkeys(("eca", "ceca", "grn", *NORM_TOKENS, *ACT_TOKENS), ()),
}
# norm of a block -> token
NORMS = {"evonorm_b0": "evob", "evonorm_s0": "evos", "none": ""}
# act -> factor that keeps the variance of what it lets through (Brock 2021, released code)
GAINS = {
    "relu": 1.7139588594436646,
    "relu6": 1.7131484746932983,
    "gelu": 1.7015043497085571,
    "silu": 1.7881293296813965,
    "leaky": 1.70590341091156,
}
_TOKEN = re.compile(
    r"(?P<name>relu6|[a-z]+?)(?P<kernel>[1-9]\d*)?(g(?P<groups>w?[1-9]\d*))?(/(?P<stride>[1-9]\d*))?(:(?P<channels>[\d.]*[wc]?))?"
)


@dataclass(frozen=True)
class Op:
    """One operation on [N, c_in, H, W]. `kind` is a key of ops.MODULES; pw and dw are kinds of conv."""

    kind: str
    c_in: int
    c_out: int
    kernel: int = 1  # pixels
    stride: int = 1  # pixels
    groups: int = 1  # of a convolution; attention's heads
    bias: bool = False
    weight: str = "plain"  # of a convolution: a word of schema.Block.weight
    hidden: int = 0  # se's squeezed width
    window: int = 0  # of attention: the side of a window, pixels; 0 = all of them
    factor: float = 1.0  # of times; on a scaled convolution's weights
    act: str = ""  # within a gate

    @property
    def padding(self) -> int:
        return 0 if self.kernel == self.stride else (self.kernel - 1) // 2

    def token(self, w: int) -> str:
        """The token that makes this operation, its channels as a multiple of `w` where that is exact."""
        stride = f"/{self.stride}" if self.stride > 1 else ""
        if self.kind == "whiten":
            return f"whiten{self.kernel}{stride}:{self.c_out}"
        if self.kind == "se":
            return f"se:{_multiple(self.hidden, w)}"
        if self.kind == "times":
            return f"times:{self.factor:.4g}"
        if self.kind != "conv":
            kernel = (self.window or self.kernel) if "kernel" in TOKENS[self.kind] else ""
            return f"{self.kind}{kernel}{stride if 'stride' in TOKENS[self.kind] else ''}"
        if self.groups == self.c_in == self.c_out > 1:
            return f"dw{self.kernel}{stride}"
        name = "pw" if self.kernel == 1 else f"conv{self.kernel}"
        groups = f"g{self.groups}" if self.groups > 1 else ""
        return f"{name}{groups}{stride}:{_multiple(self.c_out, w)}"


def _multiple(channels: int, w: int) -> str:
    factor = f"{round(channels / w, 3):g}"
    multiple = "w" if factor == "1" else f"{factor}w"
    return multiple if float(factor) * w == channels else str(channels)


Program = tuple[Op, ...]


def spell(program: Program, w: int) -> str:
    """The program as a line of tokens, for a stage `w` channels wide: equal lines are equal operations."""
    return " ".join(op.token(w) for op in program)


def channels_out(program: Program, c: int) -> int:
    """Channels after a program that `c` channels enter."""
    return program[-1].c_out if program else c


def grid_out(program: Program, grid: int) -> int:
    """Side of the map (pixels) after a program that reads a map of side `grid`. Raises ConfigError."""
    for op in program:
        if op.kind == "unshuffle" and grid % op.kernel:
            raise ConfigError(f"unshuffle{op.kernel}: a map of {grid}x{grid} has no whole blocks of that side")
        uncounted = op.stride - 1 if op.kind == "avgpool" else 0  # it averages what is left at the border too
        grid = (grid + 2 * op.padding - op.kernel + uncounted) // op.stride + 1
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
    """'4w', '0.25c' or '64' as a whole number of channels, cut. Raises ConfigError."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+|(?=[wc]))([wc]?)", text)
    number = int(float(match[1] or 1) * {"w": w, "c": c, "": 1}[match[2]] + 1e-6) if match else 0
    if number < 1:
        raise ConfigError(f"'{text}' is not a number of channels such as 4w, 0.5c or 64")
    return number


def parse(program: str, block: Block, c: int, w: int, stride: int | None = None) -> Program:
    """The operations of `program` for a stage `w` channels wide, entered by `c` channels.

    `block` says what norm, act and bias are. With `stride`, {s} is that stride, and strides written as numbers are
    left out from the front until their product is `stride`. Raises ConfigError for anything that is not the language.
    """
    ops = []
    for token in _own(program.replace("{s}", str(stride)).split(), block):
        match = _TOKEN.fullmatch(token)
        name = match["name"] if match else token
        if name not in TOKENS:
            raise ConfigError(
                f"unknown token {token} in program '{program}'{did_you_mean(name, [*TOKENS, 'norm', 'act'])}"
            )
        given = {key: match[key] for key in ("kernel", "groups", "stride", "channels") if match[key] is not None}
        if not set(given) <= set(TOKENS[name]) or ("kernel" in TOKENS[name]) != ("kernel" in given):
            takes = ", ".join(TOKENS[name]) or "no arguments"
            raise ConfigError(f"token {token} in program '{program}': {name} takes {takes}")
        try:
            ops.append(_op(name, given, block, channels_out(ops, c), c, w))
        except ConfigError as error:
            raise ConfigError(f"token {token} in program '{program}': {error}") from error
    if stride is not None:
        strides = drop([op.stride for op in ops], stride, f"program '{program}'")
        ops = [replace(op, stride=kept) for op, kept in zip(ops, strides, strict=True)]
    return tuple(op for op in ops if not (op.kind in ("blur", "unshuffle") and op.stride == 1))


def _own(tokens: list[str], block: Block) -> list[str]:
    """`tokens` with the block's own for norm and act, and none where it has none."""
    norm, own = NORMS.get(block.norm, block.norm), []
    for token in tokens:
        if token == "act" and own and own[-1] == "evolin" + norm[3:]:
            own[-1] = norm
        elif token == "norm" and norm.startswith("evo"):
            own.append("evolin" + norm[3:])
        else:
            own.append({"norm": norm, "act": block.act}.get(token, token))
    return [token for token in own if token]


def _op(name: str, given: dict[str, str], block: Block, c_in: int, c: int, w: int) -> Op:
    """The operation of one token that `c_in` channels enter. Raises ConfigError."""
    kernel, stride = int(given.get("kernel", 1)), int(given.get("stride", 1))
    plain = Op(name, c_in, c_in, kernel, stride)
    if name in ("se", "times") and "channels" not in given:
        raise ConfigError(f"{name} needs a number, such as {name}:0.25{'w' if name == 'se' else ''}")
    if name == "times":
        if not re.fullmatch(r"\d+\.?\d*|\.\d+", given["channels"]):
            raise ConfigError(f"'{given['channels']}' is not a number such as 0.25")
        return replace(plain, factor=float(given["channels"]))
    if name == "se":
        hidden = channels(given["channels"], c, w)
        return replace(plain, hidden=hidden, act="silu" if block.act == "silu" else "relu")
    if name == "blur":
        return replace(plain, kernel=3)  # binomial (Zhang 2019, sec. 3)
    if name == "unshuffle":
        return replace(plain, stride=kernel, c_out=c_in * kernel**2)
    if "attn" in name:
        most = max(1, c_in // block.head_width)
        heads = max(n for n in range(1, most + 1) if c_in % n == 0)
        window = kernel if "kernel" in given else 0
        return replace(plain, kernel=1, window=window, groups=heads, bias=block.bias)
    c_out = channels(given["channels"], c, w) if "channels" in given else c_in
    if name == "whiten":
        most = 2 * c_in * kernel**2
        if c_out % 2 or c_out > most:
            raise ConfigError(f"not an even number of at most {most} filters")
        return replace(plain, c_out=c_out)
    if name not in ("conv", "pw", "dw"):
        return plain
    groups = given.get("groups", "1")
    asked = c_in if name == "dw" else max(1, c_out // int(groups[1:])) if groups[0] == "w" else int(groups)
    scaled = block.weight == "scaled"
    return replace(
        plain,
        kind="conv",
        c_out=c_out,
        groups=math.gcd(asked, c_in, c_out),
        bias=block.bias or scaled,
        weight=block.weight,
        factor=GAINS[block.act] if scaled else 1.0,
    )
