"""Stems by name, and the smallest stride at which each still does what its paper describes. Imports no torch."""

import re

from minuteloop.arch_schema import Block
from minuteloop.nets.program import Program, parse
from minuteloop.validation import ConfigError, did_you_mean

# stem.kind -> program; a key with a stride applies to that stride only
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


def resolve_stem(kind: str, stride: int, block: Block, width: int) -> Program:
    """Return the stem with a stride: `kind` is a key of STEMS or a program.

    Raises:
        ConfigError: if the kind is unknown, or a named stem would skip pixels.
    """
    stem = parse(_text(kind, stride, block), block, 3, width, stride)
    skipping = next((op for op in stem if op.stride > op.kernel), None)
    if skipping and kind in STEMS:
        raise ConfigError(
            f"arch.stem.kind={kind}: the {skipping.token(width)} of a stem with stride {stride} skips pixels; "
            "lower size.reduce or arch.stem.stride"
        )
    return stem


def smallest_stride(kind: str, published: int, block: Block, width: int) -> int:
    """Return the smallest stride that the stem can have: > 1 where it reads patches, whose size is its stride.

    `published` is arch.stem.stride. Raises ConfigError.
    """
    stride = max(2, published)
    text = _text(kind, stride, block).replace("{s}", str(stride))
    if any(op.kind in ("conv", "unshuffle") and op.kernel == op.stride > 1 for op in parse(text, block, 3, width)):
        return next(n for n in range(2, stride + 1) if stride % n == 0)
    return 1


def _text(kind: str, stride: int, block: Block) -> str:
    """Return the stem's program as text. Raises ConfigError."""
    names = [key for key in STEMS if isinstance(key, str)]
    if re.fullmatch("[a-z_]+", kind) and kind not in names:
        raise ConfigError(f"arch.stem.kind={kind}: must be a stem or a program{did_you_mean(kind, names)}")
    tokens = (STEMS.get((kind, stride)) or STEMS.get(kind, kind)).split()
    if block.order == "pre" and kind in names:  # the first block begins with norm and act
        last = max(i for i, token in enumerate(tokens) if ":" in token)
        tokens = [token for i, token in enumerate(tokens) if i < last or token not in ("norm", "act")]
    program = " ".join(tokens)
    return program.replace("maxpool3/2", "maxpool3 blur/2") if block.antialias else program
