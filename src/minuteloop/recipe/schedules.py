"""Learning-rate schedules: pure functions of progress in [0, 1] and the run's length."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from minuteloop.validation import ConfigError, number


@dataclass
class Cosine:
    """Linear warm-up from 0, then half a cosine down to `min_lr_ratio` (Loshchilov 2017, eq. 5, one cycle).

    The warm-up takes `warmup` epochs (DeiT: 5 of 300), in a short run at most the share `max_warmup_fraction` of it.
    """

    warmup: float = number(5.0, 0, 1e6, "a number of epochs")
    max_warmup_fraction: float = number(0.1, 0, 1, "a share of the run")
    min_lr_ratio: float = number(0.01, 0, 1, "a share of the peak learning rate")

    def __call__(self, progress: float, epochs: float) -> float:
        """progress in [0, 1], the run's planned epochs -> the factor on the peak learning rate."""
        warmup = min(self.warmup / epochs, self.max_warmup_fraction)
        if progress < warmup:
            return progress / warmup
        after = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * (1 + math.cos(math.pi * after)) / 2


@dataclass
class Triangle:
    """Linear from `start` up to the peak at `peak` of the run, then linear down to `min_lr_ratio` (Jordan 2024, sec. 3)."""

    start: float = number(0.2, 0, 1, "a share of the peak learning rate")
    peak: float = number(0.23, 0, 1, "a share of the run")
    min_lr_ratio: float = number(0.07, 0, 1, "a share of the peak learning rate")

    def __call__(self, progress: float, epochs: float) -> float:
        """progress in [0, 1] -> the factor on the peak learning rate; the run's length does not matter."""
        if progress < self.peak:
            return self.start + (1 - self.start) * progress / self.peak
        return 1 - (1 - self.min_lr_ratio) * (progress - self.peak) / (1 - self.peak) if self.peak < 1 else 1.0


@dataclass
class StepDecay:
    """The peak rate, times `factor` at each of the shares `at` of the run (He 2016: epochs 30 and 60 of 90)."""

    at: list[float] = field(default_factory=lambda: [1 / 3, 2 / 3])
    factor: float = number(0.1, 0, 1, "a factor")

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in self.at):
            raise ConfigError(f"at={self.at}, not shares of the run")

    def __call__(self, progress: float, epochs: float) -> float:
        """progress in [0, 1] -> the factor on the peak learning rate; the run's length does not matter."""
        return self.factor ** sum(progress > share for share in self.at)


@dataclass
class Exponential:
    """Linear warm-up from 0, then a steady decay by the same factor in equal times, down to `min_lr_ratio`.

    0.97 every 2.4 of 350 epochs ends at 0.0118 (Tan 2021, sec. 5.1). The warm-up is Cosine's; the decay counts from the
    run's start (released code): where a warm-up of a tenth of the run ends the rate falls by a third at once.
    """

    warmup: float = number(5.0, 0, 1e6, "a number of epochs")
    max_warmup_fraction: float = number(0.1, 0, 1, "a share of the run")
    min_lr_ratio: float = number(0.0118, 1e-9, 1, "a share of the peak learning rate")

    def __call__(self, progress: float, epochs: float) -> float:
        """progress in [0, 1], the run's planned epochs -> the factor on the peak learning rate."""
        warmup = min(self.warmup / epochs, self.max_warmup_fraction)
        return progress / warmup if progress < warmup else self.min_lr_ratio**progress
