"""Which strides a net drops so that a small image keeps enough resolution: the first ones, but no stem's patches."""

import math

from minuteloop.validation import ConfigError

AUTO_LIMIT = 32  # total stride at 224 pixels in most papers


def fit_strides(strides: list[int], reduce: int | str, auto: int, stem: int = 1) -> list[int]:
    """Return the strides of the stem and the stages, dropped until their product is `reduce`.

    They are dropped from the front. A stem that would be left with less than `stem`, the side of its smallest patch,
    keeps `stem`, and the stages after it lose more. A net whose own total is smaller than `reduce` keeps it.
    reduce="auto" means at most 32 and at most `auto`: 8 at 32 pixels for a last feature map of 4x4.

    Raises:
        ConfigError: if the product cannot be `reduce`.
    """
    if math.prod(strides) % stem:  # no stage has a stride to give
        strides = [strides[0] * stem, *strides[1:]]
    total = math.prod(strides)
    if reduce == "auto":
        reduce = max(n for n in range(1, max(stem, min(AUTO_LIMIT, auto)) + 1) if total % n == 0)
    reduce = min(reduce, total)
    where = f"size.reduce={reduce}"
    kept = drop_strides(strides, reduce, where)
    if kept[0] % stem == 0:
        return kept
    if reduce % stem:
        raise ConfigError(f"{where}: must be a multiple of {stem}, or each patch of the stem is a single pixel")
    return [stem, *drop_strides(strides[1:], reduce // stem, where)]


def drop_strides(strides: list[int], total: int, where: str) -> list[int]:
    """Divide `strides`, from the front, until their product is `total`.

    `where` names the key or the program in the error. Raises ConfigError where the product cannot be `total`.
    """
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
