"""Every legal config key: its type, default, unit and source, and the words it may hold.

OmegaConf checks names and plain types while Hydra composes. What it cannot type (a knob that is one value or a
list by stage, a value or `auto`) is `Any` here and carries its own rule in the field's metadata; `check` applies
the rules. Imports no torch, so that a mistake is reported before anything heavy loads.
"""

import dataclasses
import difflib
import re
from dataclasses import dataclass, field
from typing import Any


class ConfigError(ValueError):
    """A user's mistake, told in one line: what is wrong, which file or key, the nearest valid choice."""


def nearest(word: object, legal) -> str:
    """' (nearest: a)' when a legal word resembles `word`, else ' (one of: a, b, c)'."""
    legal = [str(choice) for choice in legal]
    close = difflib.get_close_matches(str(word), legal, n=1, cutoff=0.5)
    return f" (nearest: {close[0]})" if close else f" (one of: {', '.join(legal)})" if legal else ""


def _rule(default, test, legal=(), says="", by_stage=False):
    """A dataclass field with a rule: `test(value)` must hold, or `value` is one of `legal`."""
    metadata = {"test": test, "legal": legal, "says": says, "by_stage": by_stage}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def words(default, *legal, by_stage=False):
    """A field that holds one of the words `default, *legal`."""
    return _rule(default, lambda _: False, (default, *legal), by_stage=by_stage)


def pattern(default, regex, says, legal=(), by_stage=False):
    """A field whose text matches `regex`; `says` tells a user what that means."""
    return _rule(default, lambda value: re.fullmatch(regex, str(value)) is not None, legal, says, by_stage)


def number(default, low, high, says, legal=(), whole=False, by_stage=False):
    """A field holding a number in [low, high]; `legal` lists words allowed beside it, such as 'auto'."""

    def test(value):
        kinds = int if whole else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high

    return _rule(default, test, legal, says, by_stage)


def flat(node: dict, prefix: str = "") -> dict[str, Any]:
    """A nested dict as {'a.b': leaf}."""
    leaves = {}
    for key, value in node.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def check(config: object, path: str = "") -> None:
    """Hold every field of a (nested) dataclass against its rule. Raises ConfigError naming the key."""
    for spec in dataclasses.fields(config):
        value, where = getattr(config, spec.name), f"{path}{spec.name}"
        if dataclasses.is_dataclass(value):
            check(value, where + ".")
        if "test" not in spec.metadata:
            continue
        rule = spec.metadata
        by_stage = rule["by_stage"] and isinstance(value, list)
        if by_stage and not value:
            raise ConfigError(f"{where}=[]: an empty list; give one value, or one a stage")
        for entry in value if by_stage else [value]:
            if entry not in rule["legal"] and not rule["test"](entry):
                hint = nearest(entry, rule["legal"]) if rule["legal"] and not rule["says"] else ""
                told = f", not {rule['says']}" if rule["says"] else ", unknown"
                raise ConfigError(f"{where}={entry}{told}{hint}")


# --- arch: a network as data ------------------------------------------------------------------------------------


@dataclass
class Stem:
    """From the image to the first stage."""

    # a program (see nets/program.py) or a word: conv = 7x7/2 and max-pool, deep = three 3x3, pool = one and max-pool,
    # patch = kernel equal to the stride, space_to_depth, whiten = frozen 2x2 filters that whiten the images' patches
    kind: str = "conv"
    # published stride in pixels, before `size.reduce` takes strides away; never set by a step
    stride: int = number(4, 1, 64, "a whole number of pixels", whole=True)
    width: int = number(64, 1, 65536, "a number of channels", whole=True)


@dataclass
class Stages:
    """The table of stages: one entry a stage in each list."""

    # the paper's own table; `size` scales it afterwards
    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])  # channels
    depths: list[int] = field(default_factory=lambda: [3, 4, 6, 3])  # blocks
    strides: list[int] = field(default_factory=lambda: [1, 2, 2, 2])
    # every width, the stem's too, times this before `size` (Liu 2022, sec. 2.3: 64 -> 96)
    widen: float = number(1.0, 0.01, 100, "a factor above 0")
    # a program that changes grid and width between stages; empty = the first block of a stage strides
    transition: str = ""
    last_grid: int = number(
        4, 1, 64, "a number of pixels", whole=True
    )  # side of the last map where size.reduce is auto
    keep: Any = number("all", 1, 64, "all or a number of stages", legal=("all",), whole=True)  # only the first ones


@dataclass
class Block:
    """Each knob is one value, or a list by stage whose last value repeats."""

    # order of the convolutions: 1 = pointwise, k = spatial mixer, K = dense k x k; | begins another branch with a sum
    # of its own
    layout: Any = pattern(
        "1 k 1", r"[1kK]( [1kK])*( \| [1kK]( [1kK])*)*", "a word over 1, k, K and | such as '1 k 1'", by_stage=True
    )
    mixer: Any = words("conv", "attn", by_stage=True)  # what k is
    # of an attention mixer the side of a window, 0 = all pixels
    kernel: Any = number(3, 0, 63, "a kernel size in pixels", whole=True, by_stage=True)
    # of the mixer: a number of groups, wN = groups N channels wide, dw = depthwise
    groups: Any = pattern(1, r"[1-9]\d*|w[1-9]\d*|dw", "a number, wN or dw", by_stage=True)
    # widths of the hidden and the last convolution: w = the stage's width, c = the block's input
    inner: Any = pattern("w", r"\d*\.?\d*[wc]", "a multiple of w or c such as 4w", by_stage=True)
    outer: Any = pattern("4w", r"\d*\.?\d*[wc]", "a multiple of w or c such as 4w", by_stage=True)
    norm: Any = words("bn", "ln", "gn", "evonorm_b0", "evonorm_s0", "none", by_stage=True)
    # all = one at every convolution, one = only after the spatial mixer; with order pre where a branch begins
    norms: Any = words("all", "one", by_stage=True)
    act: Any = words("relu", "gelu", "silu", "relu6", "leaky", by_stage=True)
    # all = after every convolution and the sum, branch = not after the sum, inner = nor after the last convolution,
    # one = only before the last convolution
    acts: Any = words("all", "branch", "inner", "one", by_stage=True)
    # post = convolution, norm, act; pre = norm, act, convolution (He 2016b)
    order: str = words("post", "pre")
    # on channels: none, se:WIDTH (squeezed), eca, ceca (circular), grn
    gate: Any = pattern(
        "none",
        r"none|se:\d*\.?\d*[wc]?|eca|ceca|grn",
        "none, se:WIDTH such as se:0.25w, eca, ceca or grn",
        by_stage=True,
    )
    gate_at: Any = words("inner", "end", by_stage=True)  # before the last convolution, or where the branch ends
    # conv = a 1x1 where shapes differ, avg = average pool and 1x1, identity = none where they differ, none = no sum
    shortcut: Any = words("conv", "avg", "identity", "none", by_stage=True)
    # a strided mixer becomes one of stride 1, norm, act and blur; the stem's max-pool likewise (Zhang 2019)
    antialias: bool = False
    # of the convolutions: std = standardized (Qiao 2019), scaled = for nets without norms (Brock 2021)
    weight: str = words("plain", "std", "scaled")
    # of nets without norms: what a branch is multiplied with; inputs are divided by the deviation that follows
    alpha: float = number(0.0, 0.0, 10.0, "a factor (0 = none)")
    head_width: int = number(32, 1, 4096, "a number of channels", whole=True)  # of an attention head
    # of the convolutions' weights, in the whole net: by fan in, or as the identity where channels allow
    init: str = words("normal", "dirac")
    bias: bool = False  # of the convolutions, in the whole net
    layer_scale: float = number(0.0, 0.0, 1.0, "an initial value in [0, 1] (0 = none)")
    zero_init_last: bool = False  # the last weights of a branch begin at 0, so that it begins as its shortcut


@dataclass
class Head:
    """From the last map to the logits."""

    # before = norm and act before the global pool (nets of order pre), after = norm after it (Liu 2022, sec. 2.6)
    norm: str = words("none", "before", "after")
    # a last 1x1 to that many channels, with norm and act; 0 = none
    width: int = number(0, 0, 65536, "a number of channels", whole=True)
    pool: str = words("avg", "max")  # over the last map
    bias: bool = True  # of the classifier
    scale: float = number(1.0, 1e-6, 1e6, "a factor above 0")  # on the logits


@dataclass
class Arch:
    """A network as data."""

    name: str = "resnet"
    stem: Stem = field(default_factory=Stem)
    stages: Stages = field(default_factory=Stages)
    block: Block = field(default_factory=Block)
    head: Head = field(default_factory=Head)
    # knobs of block for the first half of the stages, which win over block's
    early: dict[str, Any] = field(default_factory=dict)
    positions: bool = False  # a learned map is added to the stem's (Dosovitskiy 2021)
    # not null: the net is timm's model `name`, created with these keyword arguments, and the rest of arch is not read
    timm: dict[str, Any] | None = None
    # records, not switches: step -> source, written by the steps; step of the arch -> what replaced it
    applied: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)


@dataclass
class Size:
    """The scale of every staged arch: factors on the paper's table, and compound scaling (Tan 2019, sec. 3.3).

    That is alpha^phi on depth, beta^phi on width and gamma^phi on the side of the images, which the net resizes.
    """

    name: str = "tiny"
    width: float = number(1.0, 0.01, 16, "a factor above 0")
    # one factor, or one by stage: [1, 1, 3, 1] deepens the third stage only
    depth: Any = number(1.0, 0.01, 16, "a factor above 0", by_stage=True)
    phi: float = number(0.0, -20, 20, "an exponent")
    alpha: float = number(1.2, 0.1, 10, "a factor above 0")
    beta: float = number(1.1, 0.1, 10, "a factor above 0")
    gamma: float = number(1.15, 0.1, 10, "a factor above 0")
    # the net's total stride in pixels at most; strides are dropped from the front until it holds. auto = 32 at 224,
    # 8 at 32
    reduce: Any = number("auto", 1, 64, "auto or a total stride in pixels", legal=("auto",), whole=True)


# --- recipe: how to train ---------------------------------------------------------------------------------------


@dataclass
class Recipe:
    """Optimizer numbers plus named ingredients; an ingredient is `_target_` (a dataclass) and its fields."""

    name: str = "plain"
    batch_size: int = number(128, 1, 1_000_000, "a number of images, at least 1", whole=True)
    # how often a batch holds each of its images; an epoch then meets 1 / repeats of them (Hoffer 2020; DeiT's own: 3)
    repeats: int = number(1, 1, 1000, "a whole number of at least 1", whole=True)
    # peak learning rate, or auto = the optimizer's rule for the planned epochs and the batch size
    lr: Any = number("auto", 0.0, 1e6, "auto or a number in [0, 1e6]", legal=("auto",))
    # AdamW's is decoupled, SGD's is not; norms and biases have none
    weight_decay: float = number(0.0, 0.0, 1e6, "a number in [0, 1e6]")
    clip_grad: Any = number(None, 1e-9, 1e9, "null or a gradient norm above 0", legal=(None,))
    # multiplies one named field of each regulariser; auto grows with the planned epochs, 1 = the paper's at 300
    strength: Any = number("auto", 0.0, 1.0, "auto or a number in [0, 1]", legal=("auto",))
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    batch: dict[str, Any] = field(default_factory=dict)  # name -> transform of (images, targets)
    regularizers: dict[str, Any] = field(default_factory=dict)  # name -> what acts inside the net
    callbacks: dict[str, Any] = field(default_factory=dict)  # name -> Lightning callback
    views: Any = None  # test-time views, whose figures stand apart; null = none
    progressive: Any = None  # images that grow during the run; null = none


# --- everything else --------------------------------------------------------------------------------------------


TRAIN_IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "sample": 2_000}


@dataclass
class Data:
    """Which images, from where, and how many are kept back."""

    name: str = words("cifar10", "cifar100", "sample")
    # folder to look in and download to; auto = $MINUTELOOP_DATA or ~/.cache/minuteloop
    root: str = "auto"
    # training images kept back for validation; 0 = train on all of them, as published rows do
    holdout: int = number(5000, 0, 49_000, "a number of images in [0, 49000]", whole=True)


@dataclass
class Logger:
    """What is told beside the run's own files."""

    name: str = words("wandb", "none")
    project: str = "minuteloop"
    group: Any = None
    tags: list[str] = field(default_factory=list)
    pictures: bool = True  # PNGs at the end of a run; drawing takes 0.7 s of an idle CPU core


@dataclass
class Config:
    """A whole run."""

    name: str = "${arch.name}-${recipe.name}"  # the run's name: runs/NAME/TIME-ID
    arch: Arch = field(default_factory=Arch)
    size: Size = field(default_factory=Size)
    recipe: Recipe = field(default_factory=Recipe)
    data: Data = field(default_factory=Data)
    logger: Logger = field(default_factory=Logger)
    # training time or length; a bare number is refused
    budget: str = pattern(
        "60s",
        r"(?=.*[1-9])(\d+(\.\d+)?(s|min|h|ep)|\d+steps)",
        "a length above 0 with its unit: 60s, 10min, 1h, 200ep, 5000steps",
    )
    seed: int = number(0, 0, 2**31 - 1, "a whole number in [0, 2^31)", whole=True)
    device: str = words("auto", "cpu", "cuda")
    precision: str = words("auto", "bf16", "fp32")  # bf16 = autocast over fp32 weights
    compile: Any = words("auto", True, False)  # torch.compile of the net
    channels_last: Any = words("auto", True, False)
    threads: Any = number("auto", 1, 1024, "auto or a number of CPU threads", legal=("auto",), whole=True)
    # go on with an unfinished run of the same config: true = the newest in this one's folder, or a run's folder
    resume: Any = _rule(
        False,
        lambda value: isinstance(value, bool | str) and value != "",
        says="true, false or a run's folder",
    )
    evaluations: int = number(4, 1, 1000, "a number of evaluations, at least 1", whole=True)
