"""How every bench measures: arms alternate over rounds; figures are medians with their range."""

import math
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

Figure = TypeVar("Figure")


def alternate(arms: dict[str, Callable[[], Figure]], rounds: int) -> dict[str, list[Figure]]:
    """Return the figures of each arm over `rounds` rounds, in one process, in an order that rotates every round.

    A first round is not counted: it allocates memory and starts workers.
    """
    names = list(arms)
    figures = {name: [] for name in names}
    for round_index in range(-1, rounds):
        first = round_index % len(names)
        for name in names[first:] + names[:first]:
            figure = arms[name]()
            if round_index >= 0:
                figures[name].append(figure)
    return figures


def spread(figures: list[float]) -> dict:
    """Return the median and [minimum, maximum], to four digits."""
    median, low, high = (float(f"{x:.4g}") for x in (statistics.median(figures), min(figures), max(figures)))
    return {"median": median, "range": [low, high]}


def times(figures: list[float], others: list[float]) -> dict:
    """Return the spread of figure / other, paired by round, since neighbours in time meet the same machine.

    `interval` is a confidence interval of the median of at least 95 % (sign test: no distribution is assumed). Five
    rounds or fewer do not give one; it is then their range.
    """
    ratios = sorted(figure / other for figure, other in zip(figures, others, strict=True))
    n, left_out = len(ratios), 0  # at each end
    while 2 * sum(math.comb(n, below) for below in range(left_out + 2)) <= 0.05 * 2**n:
        left_out += 1
    return spread(ratios) | {"interval": [float(f"{ratios[k]:.4g}") for k in (left_out, n - 1 - left_out)]}


def now(device: str | torch.device) -> float:
    """Return time.perf_counter(), after the device has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_per_call(call: Callable[[], object], device: str | torch.device, calls: int) -> float:
    """Return the mean seconds of `calls` calls in a row."""
    begin = now(device)
    for _ in range(calls):
        call()
    return (now(device) - begin) / calls
