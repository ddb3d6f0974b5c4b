"""Progressive learning: images and regularisation grow during a run."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.validation import integer, number


@dataclass
class Progressive:
    """Trains in `phases` equal parts of the run on larger images each, regularised more each (Tan 2021, sec. 4).

    The images' side rises linearly from the share `smallest` of the dataset's to all of it, in multiples of `multiple`
    pixels, and with it a factor on `recipe.strength` from `weakest` to 1. EfficientNetV2-S rises from 128 to 300 pixels
    and from a third of its RandAugment and dropout. Evaluation sees whole images.
    Pixels that change for several batches in one go have the strength of the first of them.
    """

    phases: int = integer(4, 1, 100, "a whole number of at least 1")
    smallest: float = number(0.5, 0.1, 1, "a share of the side")
    weakest: float = number(0.333333, 0, 1, "a share of the strength")
    multiple: int = integer(4, 1, 64, "a number of pixels")

    @property
    def starts(self) -> list[float]:
        """Of the phases, shares of the run."""
        return [number / self.phases for number in range(self.phases)]

    def phase(self, number: int, side: int) -> tuple[int, float]:
        """Of a phase, counted from 0: its images' side, in pixels, of a dataset's `side`; the factor on strength."""
        grown = number / (self.phases - 1) if self.phases > 1 else 1.0
        shown = side * (self.smallest + (1 - self.smallest) * grown)
        shown = min(max(round(shown / self.multiple), 1) * self.multiple, side)
        return side if grown == 1 else shown, self.weakest + (1 - self.weakest) * grown
