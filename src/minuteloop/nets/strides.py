"""Which strides a net drops so that a small image keeps enough resolution: always the first ones."""

import math

from minuteloop.validation import ConfigError

AUTO_LIMIT = 32  # total stride at 224 pixels in most papers


def fit_strides(strides: list[int], reduce: int | str, auto: int) -> list[int]:
    """Return the strides of the stem and the stages, dropped from the front until their product is `reduce`.

    A net whose own total is smaller keeps it. reduce="auto" means at most 32 and at most `auto`: 8 at 32 pixels for a
    last feature map of 4x4. Raises ConfigError.
    """
    total = math.prod(strides)
    if reduce == "auto":
        reduce = max(n for n in range(1, max(1, min(AUTO_LIMIT, auto)) + 1) if total % n == 0)
    reduce = min(reduce, total)
    return drop_strides(strides, reduce, f"size.reduce={reduce}")


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
