"""Every config key: its type, default, allowed values, unit and meaning.

OmegaConf checks names and plain types while Hydra composes. A field that OmegaConf cannot type (one value or a list
with one for each stage, a number or `auto`) is `Any` here, and its metadata holds the rule that `validation.check`
applies. `--help` and docs/config.md print the same metadata.
"""

from dataclasses import dataclass, field
from typing import Any

from minuteloop.validation import choice, custom, integer, number, pattern, setting

# --- arch: a network as data ------------------------------------------------------------------------------------


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


# --- recipe: how to train ---------------------------------------------------------------------------------------


def _is_strength(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


@dataclass
class Recipe:
    """Optimizer numbers and named ingredients; an ingredient is `_target_` (a dataclass) and its fields."""

    name: str = setting("plain", "name of the recipe")
    batch_size: int = integer(128, 1, 1_000_000, "training batch", "images")
    repeats: int = integer(1, 1, 1000, "repeated augmentation: copies of each image in a batch (Hoffer 2020)")
    lr: Any = number(
        "auto",
        *(0.0, 1e6, "peak learning rate, of Muon's matrices: its other rates follow; auto: the optimizer's rule"),
        allow=("auto",),
    )
    weight_decay: Any = number(
        "auto",
        *(0.0, 1e6, "not of norms, biases and matrices that Muon renormalises; auto: recipe.optimizer.weight_decay"),
        allow=("auto",),
    )
    clip_grad: Any = number(None, 1e-9, 1e9, "largest gradient norm; null: no clipping", allow=(None,))
    paper_epochs: float = number(300.0, 1e-3, 1e6, "length of run that the recipe is for", "epochs")
    strength: Any = custom(
        "auto",
        lambda value: all(map(_is_strength, value.values() if isinstance(value, dict) else [value])),
        "must be auto or a number in [0, 1], or one for some ingredients as {mixup: 0.5}",
        "factor on one field of each regularizer that you do not name; auto: by ingredient, 1 from paper_epochs on",
        allow=("auto",),
    )
    named: list[str] = setting([], "record, not a switch: ingredients that you named, which are at full strength")
    notes: list[str] = setting([], "record, not a switch: ingredients left out because they cannot act on the net")
    optimizer: dict[str, Any] = setting({}, "optimizer ingredient")
    schedule: dict[str, Any] = setting({}, "learning-rate schedule")
    loss: dict[str, Any] = setting({}, "loss over soft targets")
    batch: dict[str, Any] = setting({}, "batch transforms by name")
    regularizers: dict[str, Any] = setting({}, "ingredients that act inside the net, by name")
    callbacks: dict[str, Any] = setting({}, "Lightning callbacks by name")
    tta: Any = setting(None, "test-time augmentation, reported separately; null: none")
    progressive: Any = setting(None, "image sizes that grow during the run; null: none")


# --- everything else --------------------------------------------------------------------------------------------


TRAIN_IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "sample": 2_000}


@dataclass
class Data:
    """The images, where they are, and the size of the validation split."""

    name: str = choice("cifar10", "cifar100", "sample", help="dataset; sample: 3,000 embedded images of CIFAR-10")
    root: str = setting("auto", "folder to look in and download to; auto: $MINUTELOOP_DATA or ~/.cache/minuteloop")
    holdout: int = integer(5000, 0, 49_000, "validation split; 0: train on all, as published rows do", "images")


@dataclass
class Logger:
    """Where results go besides the run's own files."""

    name: str = choice(
        "wandb", "tensorboard", "none", help="W&B (online with a key, else offline), TensorBoard or none"
    )
    project: str | None = pattern(
        *(None, r"[^/\\#?%:]{1,128}", "must be null or at most 128 characters other than / \\ # ? % :"),
        "W&B project; null: $WANDB_PROJECT, else minuteloop",
        allow=(None,),
    )
    group: str | None = pattern(
        *(None, r".{1,128}", "must be null or at most 128 characters"),
        "W&B group; null: $WANDB_RUN_GROUP, else the name of the sweep's folder",
        allow=(None,),
    )
    tags: list[str] = custom(
        *([], lambda tags: all(0 < len(tag) <= 64 for tag in tags), "must be a list of tags of 1 to 64 characters"),
        "W&B tags, besides arch, recipe and data; []: $WANDB_TAGS",
    )
    pictures: bool = setting(True, "draw PNGs at the end of a run (1 s of a CPU core)")


SECONDS = {"s": 1, "min": 60, "h": 3600}


@dataclass
class Config:
    """Everything that a run asks for."""

    name: str = pattern(
        "${arch.name}-${recipe.name}",
        r"(?=.*\S)[^\x00-\x1f\x7f]+",
        "must be text on one line, not blank",
        "name of the run: its folder is runs/NAME/TIME-ID",
    )
    arch: Arch = field(default_factory=Arch)
    size: Size = field(default_factory=Size)
    recipe: Recipe = field(default_factory=Recipe)
    data: Data = field(default_factory=Data)
    logger: Logger = field(default_factory=Logger)
    budget: str = pattern(
        "60s",
        r"(?=.*[1-9])(\d+(\.\d+)?(s|min|h|ep)|\d+steps)",
        "must be a length > 0 with its unit (use 60s, 10min, 1h, 200ep or 5000steps)",
        "training time or length, with its unit: s, min, h, ep or steps",
    )
    seed: int = integer(0, 0, 2**31 - 1, "seed of the weights, the order and every random draw")
    device: str = choice("auto", "cpu", "cuda", help="training device; auto: cuda where there is one")
    precision: str = choice("auto", "bf16", "fp32", help="bf16: autocast over fp32 weights; auto: where it is fast")
    compile: Any = choice("auto", True, False, help="torch.compile the net; auto: on CUDA from 5 minutes on")
    channels_last: Any = choice("auto", True, False, help="memory format of the feature maps; auto: true")
    threads: Any = integer("auto", 1, 1024, "CPU threads; auto: as many as the machine has idle", allow=("auto",))
    resume: Any = custom(
        False,
        lambda value: isinstance(value, bool | str) and value != "",
        "must be true, false or the folder of a run",
        "resume an unfinished run of the same config: true (the newest), or its folder",
    )
    rerun: bool = setting(False, "in a sweep, train cells again although they have finished, and measure rates again")
    evaluations: int = integer(4, 1, 1000, "evaluations on the validation split during training")
    test: Any = choice(
        "auto",
        *(True, False),
        help="read the test set, once, when the run has finished; auto: in a sweep only with data.holdout=0",
    )
    trainer: dict[str, Any] = setting({}, "more arguments of Lightning's Trainer: +trainer.profiler=simple")


def parse_budget(budget: str) -> tuple[float, str]:
    """Return a valid budget as (amount, unit): '10min' -> (600.0, 's'), '200ep' -> (200.0, 'ep')."""
    digits = budget.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = budget[len(digits) :]
    return (float(digits) * SECONDS[unit], "s") if unit in SECONDS else (float(digits), unit)


def reads_test_set(config: Config, is_cell: bool) -> bool:
    """Return what `test` means; with auto a cell of a sweep reads the test set only without a validation split."""
    return not (is_cell and config.data.holdout) if config.test == "auto" else config.test
