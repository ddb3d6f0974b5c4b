"""Learning-rate schedules: pure functions of progress in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

from minuteloop.schema import number


@dataclass
class Cosine:
    """Linear warm-up from 0, then half a cosine down to `final` (Loshchilov 2017, eq. 5, one cycle)."""

    warmup: float = number(5 / 300, 0, 1, "a share of the run")
    final: float = number(0.01, 0, 1, "a share of the peak learning rate")

    def __call__(self, progress: float) -> float:
        """progress in [0, 1] -> the factor on the peak learning rate."""
        if progress < self.warmup:
            return progress / self.warmup
        after = (progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * after)) / 2
