"""The language of nets: stems, transitions, branches and shortcuts are programs, lines of tokens.

    conv3/2:4w    3x3 convolution with /stride and :channels; without channels it keeps the width of its input
    conv3g32:w    in 32 groups; gw8 = groups 8 channels wide (the number of groups is a gcd, so that it divides both
                  widths)
    pw:w  dw7/2   pointwise (1x1) and depthwise convolution; dw always keeps the width
    whiten2:24    convolution with frozen filters that whiten image patches; its bias is learned
    attn          self-attention over all pixels (global attention)
    wattn7        self-attention within 7x7 windows (window attention)
    sattn7        self-attention within 7x7 windows shifted by half their size (shifted-window attention)
    se:0.25c      squeeze-and-excite; the number is its hidden width
    eca  ceca     efficient channel attention, with zero and with circular padding
    grn           global response norm
    maxpool3/2  avgpool2/2    max and average pooling
    blur/2        anti-aliasing blur filter with a stride
    unshuffle2    space-to-depth: each 2x2 patch becomes channels
    bn  ln  gn    batch norm, layer norm over channels, group norm
    evob  evos    EvoNorm-B0 and EvoNorm-S0, which are norm and activation in one
    evolinb  evolins    the same without their activation
    relu  gelu  silu  relu6  leaky    activations; leaky is leaky ReLU with slope 0.001
    norm  act     the block's own norm and activation
    times:0.2     scale by a constant
    {s}           in a stem or a transition: the stride it needs

Channels are a number, or a multiple of w (the width of the stage) or c (the width of the program's input). Stems and
transitions are written in this language; block.py generates a block's programs from its knobs. TOKEN_NAMES has each
token's long name. Imports no torch.
"""

import math
import re
from dataclasses import dataclass, replace

from minuteloop.arch_schema import Block
from minuteloop.nets.strides import drop_strides
from minuteloop.validation import ConfigError, did_you_mean

NORM_TOKENS = ("bn", "ln", "gn", "evob", "evos", "evolinb", "evolins")
ACT_TOKENS = ("relu", "gelu", "silu", "relu6", "leaky")
# token -> the arguments it may take; a kernel is required
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
# token -> long name, for documentation
TOKEN_NAMES = {
    "conv": "convolution",
    "pw": "pointwise (1x1) convolution",
    "dw": "depthwise convolution",
    "whiten": "patch-whitening convolution with frozen filters",
    "attn": "global attention",
    "wattn": "window attention",
    "sattn": "shifted-window attention",
    "se": "squeeze-and-excite",
    "eca": "efficient channel attention (ECA)",
    "ceca": "circular ECA",
    "grn": "global response norm",
    "maxpool": "max pooling",
    "avgpool": "average pooling",
    "blur": "anti-aliasing blur filter",
    "unshuffle": "space-to-depth",
    "times": "scale by a constant",
    "bn": "batch norm",
    "ln": "layer norm",
    "gn": "group norm",
    "evob": "EvoNorm-B0",
    "evos": "EvoNorm-S0",
    "evolinb": "EvoNorm-B0 without activation",
    "evolins": "EvoNorm-S0 without activation",
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "relu6": "ReLU6",
    "leaky": "leaky ReLU",
    "norm": "the block's norm",
    "act": "the block's activation",
}
# Block.norm -> token, where they differ
NORMS = {"evonorm_b0": "evob", "evonorm_s0": "evos", "none": ""}
# activation -> factor that keeps the variance of its output (Brock 2021, released code)
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
_ARGUMENTS = ("kernel", "groups", "stride", "channels")


@dataclass(frozen=True)
class Op:
    """One operation on [N, c_in, H, W]. `kind` is a key of layers.MODULES; pw and dw are of kind conv."""

    kind: str
    c_in: int
    c_out: int
    kernel: int = 1  # pixels
    stride: int = 1  # pixels
    groups: int = 1  # of a convolution; of attention, the number of heads
    bias: bool = False
    weight: str = "plain"  # of a convolution: a value of schema.Block.weight
    hidden: int = 0  # hidden width of squeeze-and-excite
    window: int = 0  # window size of attention, pixels; 0 = global
    factor: float = 1.0  # constant of `times`; gain of a scaled convolution's weights
    act: str = ""  # inside a gate

    @property
    def padding(self) -> int:
        return 0 if self.kernel == self.stride else (self.kernel - 1) // 2

    def token(self, w: int) -> str:
        """Return the token of this operation, its channels as a multiple of `w` where that is exact."""
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
    """Return the tokens of a program in a stage `w` channels wide; equal lines mean equal operations."""
    return " ".join(op.token(w) for op in program)


def channels_out(program: Program, c: int) -> int:
    """Return the width of the output for an input of `c` channels."""
    return program[-1].c_out if program else c


def resolution_out(program: Program, resolution: int) -> int:
    """Return the resolution (pixels) of the output for an input of that resolution. Raises ConfigError."""
    for op in program:
        if op.kind == "unshuffle" and resolution % op.kernel:
            size = f"{resolution}x{resolution}"
            raise ConfigError(f"unshuffle{op.kernel}: the resolution must be a multiple of {op.kernel}, got {size}")
        ceil = op.stride - 1 if op.kind == "avgpool" else 0  # it averages incomplete windows at the border too
        resolution = (resolution + 2 * op.padding - op.kernel + ceil) // op.stride + 1
    return resolution


def window_size(resolution: int, window: int) -> int:
    """Return the largest attention window (pixels) that divides a resolution and is at most `window`."""
    return max(n for n in range(1, window + 1) if resolution % n == 0)


def parse_channels(text: str, c: int, w: int) -> int:
    """Return '4w', '0.25c' or '64' as a number of channels, rounded down. Raises ConfigError."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+|(?=[wc]))([wc]?)", text)
    number = int(float(match[1] or 1) * {"w": w, "c": c, "": 1}[match[2]] + 1e-6) if match else 0
    if number < 1:
        raise ConfigError(f"'{text}' must be a number of channels such as 4w, 0.5c or 64")
    return number


def parse(program: str, block: Block, c: int, w: int, stride: int | None = None) -> Program:
    """Return the operations of `program` in a stage `w` channels wide, for an input of `c` channels.

    `block` defines norm, act and bias. `stride` replaces {s}, and literal strides are dropped from the front until
    their product is `stride`; patches, pools and unshuffles as large as their stride shrink with it. Raises ConfigError
    for text outside the language.
    """
    tokens = _substitute(program.replace("{s}", str(stride)).split(), block)
    ops = _operations(tokens, program, block, c, w)
    if stride is None:
        return ops
    kept = drop_strides([op.stride for op in ops], stride, f"program '{program}'")
    tokens = [_with_stride(token, op, k) for token, op, k in zip(tokens, ops, kept, strict=True)]
    return _operations([token for token in tokens if token], program, block, c, w)


def _operations(tokens: list[str], program: str, block: Block, c: int, w: int) -> Program:
    ops = []
    for token in tokens:
        try:
            name, arguments = _split_token(token)
            ops.append(_operation(name, arguments, block, channels_out(ops, c), c, w))
        except ConfigError as error:
            raise ConfigError(f"program '{program}': token {token}: {error}") from error
    return tuple(ops)


def _with_stride(token: str, op: Op, stride: int) -> str:
    """Return the token of `op` with another stride, or '' where that leaves nothing to do."""
    resamples = op.kind in ("blur", "unshuffle") or (op.kind in ("maxpool", "avgpool") and op.kernel == op.stride)
    if stride == 1 and resamples:
        return ""
    if stride == op.stride:
        return token
    name, arguments = _split_token(token)
    arguments |= {"stride": str(stride)} if "stride" in TOKENS[name] else {}
    if op.kernel == op.stride and "kernel" in arguments:
        arguments["kernel"] = str(stride)
    marks = {"kernel": "", "groups": "g", "stride": "/", "channels": ":"}
    return name + "".join(marks[key] + arguments[key] for key in _ARGUMENTS if key in arguments)


def _substitute(tokens: list[str], block: Block) -> list[str]:
    """Replace norm and act by the block's own; an EvoNorm includes the activation that follows it directly."""
    norm, result = NORMS.get(block.norm, block.norm), []
    without_act = f"evolin{norm[3:]}" if norm.startswith("evo") else None
    for token in tokens:
        if token == "act" and without_act and result and result[-1] == without_act:
            result[-1] = norm
        elif token == "norm" and without_act:
            result.append(without_act)
        else:
            result.append({"norm": norm, "act": block.act}.get(token, token))
    return [token for token in result if token]


def _split_token(token: str) -> tuple[str, dict[str, str]]:
    """Split a token into its name and its arguments. Raises ConfigError."""
    match = _TOKEN.fullmatch(token)
    name = match["name"] if match else token
    if name not in TOKENS:
        raise ConfigError(f"unknown token{did_you_mean(name, [*TOKENS, 'norm', 'act'])}")
    arguments = {key: match[key] for key in _ARGUMENTS if match[key] is not None}
    if not set(arguments) <= set(TOKENS[name]) or ("kernel" in TOKENS[name]) != ("kernel" in arguments):
        raise ConfigError(f"{name} takes {', '.join(TOKENS[name]) or 'no arguments'}")
    return name, arguments


def _operation(name: str, arguments: dict[str, str], block: Block, c_in: int, c: int, w: int) -> Op:
    """Return the operation of one token for an input of `c_in` channels. Raises ConfigError."""
    kernel, stride = int(arguments.get("kernel", 1)), int(arguments.get("stride", 1))
    width = arguments.get("channels")
    op = Op(name, c_in, c_in, kernel, stride)
    if name in ("se", "times") and width is None:
        raise ConfigError(f"{name} needs a number, such as {name}:0.25{'w' if name == 'se' else ''}")
    if name == "times":
        if not re.fullmatch(r"\d+\.?\d*|\.\d+", width):
            raise ConfigError(f"'{width}' must be a number such as 0.25")
        return replace(op, factor=float(width))
    if name == "se":
        return replace(op, hidden=parse_channels(width, c, w), act="silu" if block.act == "silu" else "relu")
    if name == "blur":
        return replace(op, kernel=3)  # binomial (Zhang 2019, sec. 3)
    if name == "unshuffle":
        return replace(op, stride=kernel, c_out=c_in * kernel**2)
    if name in ("attn", "wattn", "sattn"):
        max_heads = max(1, c_in // block.head_width)
        heads = max(n for n in range(1, max_heads + 1) if c_in % n == 0)
        return replace(op, kernel=1, window=0 if name == "attn" else kernel, groups=heads, bias=block.bias)
    op = replace(op, c_out=parse_channels(width, c, w) if width is not None else c_in)
    if name == "whiten":
        limit = 2 * c_in * kernel**2
        if op.c_out % 2 or op.c_out > limit:
            raise ConfigError(f"the number of filters must be even and at most {limit}, got {op.c_out}")
        return op
    return _convolution(op, arguments.get("groups", "1"), block) if name in ("conv", "pw", "dw") else op


def _convolution(op: Op, groups: str, block: Block) -> Op:
    """Complete a conv, pw or dw: groups, bias and weights."""
    number = max(1, op.c_out // int(groups[1:])) if groups[0] == "w" else int(groups)
    number = op.c_in if op.kind == "dw" else number
    is_scaled = block.weight == "scaled"
    return replace(
        op,
        kind="conv",
        groups=math.gcd(number, op.c_in, op.c_out),
        bias=block.bias or is_scaled,
        weight=block.weight,
        factor=GAINS[block.act] if is_scaled else 1.0,
    )
