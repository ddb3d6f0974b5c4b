"""How every bench measures: arms in turn, rounds over, medians with the least and the most."""

import math
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

Figure = TypeVar("Figure")


def alternate(arms: dict[str, Callable[[], Figure]], rounds: int) -> dict[str, list[Figure]]:
    """What each arm gave in each of `rounds` rounds: one process, the order rotated every round.

    A round that is not counted goes first: memory is claimed and workers start in it.
    """
    names = list(arms)
    figures = {name: [] for name in names}
    for round_ in range(-1, rounds):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            figure = arms[name]()
            if round_ >= 0:
                figures[name].append(figure)
    return figures


def spread(figures: list[float]) -> dict:
    """Median and [least, most], to four digits."""
    median, least, most = (float(f"{x:.4g}") for x in (statistics.median(figures), min(figures), max(figures)))
    return {"median": median, "range": [least, most]}


def times(figures: list[float], others: list[float]) -> dict:
    """How many times the others' figure it is, round by round: neighbours in time meet the same machine.

    `interval` holds the median of all rounds there could be with at least 95 %, by ranks: no law is assumed. Up to five
    rounds are too few, and it is their range.
    """
    ratios = sorted(figure / other for figure, other in zip(figures, others, strict=True))
    n, left_out = len(ratios), 0  # at each end
    while 2 * sum(math.comb(n, below) for below in range(left_out + 2)) <= 0.05 * 2**n:
        left_out += 1
    return spread(ratios) | {"interval": [float(f"{ratios[k]:.4g}") for k in (left_out, n - 1 - left_out)]}


def now(device) -> float:
    """time.perf_counter() after what the device still has to do."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
