"""Label smoothing."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class LabelSmoothing:
    """Moves a fraction `smoothing` of each target to the uniform distribution (Szegedy 2016, sec. 7)."""

    smoothing: float = number(0.1, 0, 1, "fraction of a target that is spread over all classes")
    stage: ClassVar[str] = "targets"
    strengthens: ClassVar[str] = "smoothing"
    off_until: ClassVar[float] = 2.0  # epochs
    full_from: ClassVar[float] = 10.0  # epochs

    def __call__(self, targets):
        """Smooth targets [N,K], whose rows sum to 1."""
        return targets * (1 - self.smoothing) + self.smoothing / targets.shape[1]
