"""Learning-rate schedules: pure functions of progress in [0, 1] and the planned epochs."""

import math
from dataclasses import dataclass

from minuteloop.validation import custom, number


@dataclass
class Cosine:
    """Linear warm-up from 0, then half a cosine down to `min_lr_ratio` (Loshchilov 2017, eq. 5, one cycle).

    The warm-up takes `warmup` epochs (DeiT: 5 of 300), at most the fraction `max_warmup_fraction` of the run.
    """

    warmup: float = number(5.0, 0, 1e6, "length of the warm-up", "epochs")
    max_warmup_fraction: float = number(0.1, 0, 1, "longest warm-up", "fraction of the run")
    min_lr_ratio: float = number(0.01, 0, 1, "final learning rate", "fraction of the peak")

    def __call__(self, progress: float, epochs: float) -> float:
        """Return the factor on the peak learning rate at `progress` in [0, 1] of a run of `epochs`."""
        warmup = min(self.warmup / epochs, self.max_warmup_fraction)
        if progress < warmup:
            return progress / warmup
        after = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * (1 + math.cos(math.pi * after)) / 2


@dataclass
class Triangle:
    """Linear rise from `start` to the peak, then linear decay to `min_lr_ratio` (Jordan 2024, sec. 3)."""

    start: float = number(0.2, 0, 1, "initial learning rate", "fraction of the peak")
    peak: float = number(0.23, 0, 1, "position of the peak", "fraction of the run")
    min_lr_ratio: float = number(0.07, 0, 1, "final learning rate", "fraction of the peak")

    def __call__(self, progress: float, epochs: float) -> float:
        """Return the factor on the peak learning rate at `progress` in [0, 1]; `epochs` does not matter."""
        if progress < self.peak:
            return self.start + (1 - self.start) * progress / self.peak
        return 1 - (1 - self.min_lr_ratio) * (progress - self.peak) / (1 - self.peak) if self.peak < 1 else 1.0


def _are_fractions(values: list[float]) -> bool:
    return all(0 <= value <= 1 for value in values)


@dataclass
class StepDecay:
    """The peak learning rate, multiplied by `factor` at each of `at` (He 2016: epochs 30 and 60 of 90)."""

    at: list[float] = custom(
        [1 / 3, 2 / 3], _are_fractions, "must be numbers in [0, 1]", "where the rate drops, as fractions of the run"
    )
    factor: float = number(0.1, 0, 1, "factor on the learning rate at each drop")

    def __call__(self, progress: float, epochs: float) -> float:
        """Return the factor on the peak learning rate at `progress` in [0, 1]; `epochs` does not matter."""
        return self.factor ** sum(progress > drop for drop in self.at)


@dataclass
class Exponential:
    """Linear warm-up from 0, and exponential decay from the start of the run to `min_lr_ratio` at its end.

    0.97 every 2.4 of 350 epochs ends at 0.0118 (Tan 2021, sec. 5.1). The warm-up follows Cosine's rule. The decay does
    not wait for it (released code): after a warm-up of a tenth of the run, the rate drops by a third at once.
    """

    warmup: float = number(5.0, 0, 1e6, "length of the warm-up", "epochs")
    max_warmup_fraction: float = number(0.1, 0, 1, "longest warm-up", "fraction of the run")
    min_lr_ratio: float = number(0.0118, 1e-9, 1, "final learning rate", "fraction of the peak")

    def __call__(self, progress: float, epochs: float) -> float:
        """Return the factor on the peak learning rate at `progress` in [0, 1] of a run of `epochs`."""
        warmup = min(self.warmup / epochs, self.max_warmup_fraction)
        return progress / warmup if progress < warmup else self.min_lr_ratio**progress
