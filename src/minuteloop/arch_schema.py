"""The config keys of a network, arch.* and size.*; schema.py has the others and explains the rules."""

from dataclasses import dataclass, field
from typing import Any

from minuteloop.validation import choice, integer, number, pattern, setting


@dataclass
class Stem:
    """From the image to the first stage."""

    kind: str = setting(
        "conv",
        "conv (7x7/2 and max-pool), deep (three 3x3), pool (3x3 and max-pool), patch (kernel = stride), "
        "space_to_depth, whiten (frozen 2x2 whitening filters), or a program (docs/grammar.md)",
    )
    stride: int = integer(4, 1, 64, "published stride, before size.reduce lowers it", "pixels")
    width: int = integer(64, 1, 65536, "output channels at size=tiny", "channels")


@dataclass
class Stages:
    """The stage table of the paper; `size` scales it afterwards."""

    widths: list[int] = setting([64, 128, 256, 512], "channels of each stage")
    depths: list[int] = setting([3, 4, 6, 3], "blocks of each stage")
    strides: list[int] = setting([1, 2, 2, 2], "stride of each stage")
    widen: float = number(1.0, 0.01, 100, "factor on every width, the stem's too (Liu 2022, sec. 2.3)")
    transition: str = setting(
        "", "program that changes resolution and width between stages; empty: the first block does"
    )
    last_grid: int = integer(4, 1, 64, "resolution of the last feature map where size.reduce is auto", "pixels")
    keep: Any = integer("all", 1, 64, "how many stages to keep, from the first on", "stages", allow=("all",))


@dataclass
class Block:
    """Knobs of a block: each is one value, or a list with one value for each stage, whose last value repeats."""

    layout: Any = pattern(
        "1 k 1",
        r"[1kK]( [1kK])*( \| [1kK]( [1kK])*)*",
        "must be a sequence of 1, k, K and | such as '1 k 1'",
        "order of the convolutions: 1 pointwise, k spatial mixer, K dense k x k; | starts a branch with its own sum",
        by_stage=True,
    )
    mixer: Any = choice("conv", "attn", help="what k is: convolution or attention", by_stage=True)
    kernel: Any = integer(
        3,
        0,
        63,
        "kernel size of the mixer; of attention the window size, 0 = global attention",
        "pixels",
        by_stage=True,
    )
    groups: Any = pattern(
        1,
        r"[1-9]\d*|w[1-9]\d*|dw",
        "must be a number of groups, wN or dw",
        "groups of the mixer: a number, wN (groups of N channels) or dw (depthwise)",
        by_stage=True,
    )
    inner: Any = pattern(
        "w",
        r"\d*\.?\d*[wc]",
        "must be a multiple of w or c such as 4w",
        "width of the hidden convolutions, in multiples of w (the stage's width) or c (the block's input)",
        by_stage=True,
    )
    outer: Any = pattern(
        "4w",
        r"\d*\.?\d*[wc]",
        "must be a multiple of w or c such as 4w",
        "width of the last convolution, in multiples of w or c",
        by_stage=True,
    )
    norm: Any = choice(
        *("bn", "ln", "gn", "evonorm_b0", "evonorm_s0", "none"), help="batch, layer, group norm, EvoNorm", by_stage=True
    )
    norms: Any = choice(
        "all",
        "one",
        help="a norm at every convolution, or only after the mixer (pre: at the branch's start)",
        by_stage=True,
    )
    act: Any = choice("relu", "gelu", "silu", "relu6", "leaky", help="activation function", by_stage=True)
    acts: Any = choice(
        *("all", "branch", "inner", "one"),
        help="all: after every convolution and the sum; branch: not after the sum; inner: nor after the last "
        "convolution; one: only before the last convolution",
        by_stage=True,
    )
    order: str = choice("post", "pre", help="post: convolution, norm, act; pre: norm, act, convolution (He 2016b)")
    gate: Any = pattern(
        "none",
        r"none|se:\d*\.?\d*[wc]?|eca|ceca|grn",
        "must be none, se:WIDTH such as se:0.25w, eca, ceca or grn",
        "channel gate: squeeze-and-excite of a width, ECA, circular ECA, global response norm",
        by_stage=True,
    )
    gate_at: Any = choice(
        "inner", "end", help="gate before the last convolution, or at the branch's end", by_stage=True
    )
    shortcut: Any = choice(
        *("conv", "avg", "identity", "none"),
        help="where shapes differ: 1x1 convolution, average pool and 1x1, or no shortcut; none: no sum at all",
        by_stage=True,
    )
    antialias: bool = setting(False, "a strided mixer and the stem's max-pool become stride 1 and blur (Zhang 2019)")
    weight: str = choice(
        *("plain", "std", "scaled"), help="weights: std = standardized (Qiao 2019), scaled = for nets without norms"
    )
    alpha: float = number(0.0, 0.0, 10.0, "scale of a branch in nets without norms (Brock 2021); 0 = none")
    head_width: int = integer(32, 1, 4096, "width of an attention head", "channels")
    init: str = choice("normal", "dirac", help="initial convolution weights, the same in all stages")
    bias: bool = setting(False, "all convolutions have a bias")
    layer_scale: float = number(0.0, 0.0, 1.0, "initial value of layer scale; 0 = none")
    zero_init_last: bool = setting(False, "the last weights of a branch start at 0 (Goyal 2017)")


@dataclass
class Head:
    """From the last feature map to the logits."""

    norm: str = choice(
        *("none", "before", "after"), help="norm and act before the global pool (order=pre), or a norm after it"
    )
    width: int = integer(0, 0, 65536, "a last 1x1 convolution with norm and act; 0 = none", "channels")
    pool: str = choice("avg", "max", help="global pool")
    bias: bool = setting(True, "the classifier has a bias")
    scale: float = number(1.0, 1e-6, 1e6, "factor on the logits")


@dataclass
class Arch:
    """A network as data."""

    name: str = setting("resnet", "name of the architecture; with arch=timm the name of a timm model")
    stem: Stem = field(default_factory=Stem)
    stages: Stages = field(default_factory=Stages)
    block: Block = field(default_factory=Block)
    head: Head = field(default_factory=Head)
    early: dict[str, Any] = setting({}, "block knobs for the first half of the stages, in place of arch.block's")
    positions: bool = setting(False, "add a learned position embedding to the stem's output (Dosovitskiy 2021)")
    timm: dict[str, Any] | None = setting(None, "keyword arguments of timm.create_model; set by arch=timm")
    applied: dict[str, str] = setting({}, "record, not a switch: steps that hold, with their source")
    replaced: dict[str, str] = setting({}, "record, not a switch: steps of the arch that another setting replaced")


@dataclass
class Size:
    """The scale of every staged arch: factors on its table, and compound scaling (Tan 2019, sec. 3.3)."""

    name: str = setting("tiny", "name of the size")
    width: float = number(1.0, 0.01, 16, "factor on widths")
    depth: Any = number(1.0, 0.01, 16, "factor on depths, one for all stages or a list", by_stage=True)
    phi: float = number(0.0, -20, 20, "compound coefficient: exponent of alpha, beta and gamma")
    alpha: float = number(1.2, 0.1, 10, "depth is multiplied by alpha^phi")
    beta: float = number(1.1, 0.1, 10, "width is multiplied by beta^phi")
    gamma: float = number(1.15, 0.1, 10, "image size is multiplied by gamma^phi; the net resizes its images")
    reduce: Any = integer(
        "auto",
        *(
            1,
            64,
            "largest total stride; the first are dropped, but patches keep 2 (auto: 32 at 224 pixels, 8 at 32)",
            "pixels",
        ),
        allow=("auto",),
    )
