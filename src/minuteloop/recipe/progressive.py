"""Progressive learning: image size and regularization grow during the run."""

from bisect import bisect_right
from dataclasses import dataclass

from minuteloop.validation import integer, number


@dataclass(frozen=True)
class Phase:
    """A part of the run: its start, training image size and factor on `recipe.strength`."""

    start: float  # fraction of the run
    image_size: int  # pixels
    strength: float


@dataclass
class Progressive:
    """Trains on larger images, with stronger regularization, in each of `phases` parts of the run (Tan 2021, sec. 4).

    The image size rises linearly from `smallest` times the dataset's to the dataset's, in multiples of `multiple`. The
    factor on `recipe.strength` rises with it from `weakest` to 1. EfficientNetV2-S grows from 128 to 300 pixels, and
    from a third of its RandAugment and dropout. Evaluation uses full-size images. Transforms that run on several
    batches at once use the strength of the first batch.
    """

    phases: int = integer(4, 1, 100, "number of equal parts of the run")
    smallest: float = number(0.5, 0.1, 1, "image size of the first phase", "fraction of the dataset's image size")
    weakest: float = number(0.333333, 0, 1, "factor on recipe.strength in the first phase")
    multiple: int = integer(4, 1, 64, "image sizes are multiples of this", "pixels")

    @property
    def starts(self) -> list[float]:
        """Return where the phases start, as fractions of the run."""
        return [index / self.phases for index in range(self.phases)]

    def phase(self, index: int, image_size: int) -> Phase:
        """Return a phase by its index; `image_size` is the dataset's, in pixels."""
        growth = index / (self.phases - 1) if self.phases > 1 else 1.0
        size = image_size * (self.smallest + (1 - self.smallest) * growth)
        size = min(max(round(size / self.multiple), 1) * self.multiple, image_size)
        return Phase(
            start=self.starts[index],
            image_size=image_size if growth == 1 else size,
            strength=self.weakest + (1 - self.weakest) * growth,
        )

    def phase_at(self, progress: float, image_size: int) -> Phase:
        """Return the phase at `progress` in [0, 1] of the run; `image_size` is the dataset's, in pixels."""
        return self.phase(bisect_right(self.starts, progress) - 1, image_size)
