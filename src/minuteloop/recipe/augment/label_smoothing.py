"""Label smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class LabelSmoothing:
    """Moves `smoothing` of each target's mass to the uniform distribution (Szegedy 2016, sec. 7)."""

    smoothing: float = number(0.1, 0, 1, "a share in [0, 1]")
    stage: ClassVar[str] = "targets"
    strengthens: ClassVar[str] = "smoothing"

    def __call__(self, targets):
        """targets [N,K], rows that sum to 1 -> the same."""
        return targets * (1 - self.smoothing) + self.smoothing / targets.shape[1]
