"""Adaptive gradient clipping."""

from dataclasses import dataclass

from minuteloop.validation import number


@dataclass
class AGC:
    """Clips the gradient of each filter to `factor` times the filter's norm, except the head's (Brock 2021b, sec. 4.1).

    Norms below `eps` count as `eps`. The arithmetic is timm's.
    """

    factor: float = number(0.01, 0, 1e6, "largest gradient norm", "fraction of the filter's norm")
    eps: float = number(1e-3, 0, 1, "smallest norm of a filter")

    def callback(self, steps: int):
        """Return the Lightning callback; the length of the run does not matter."""
        from minuteloop.recipe.callbacks.agc_callback import AGCCallback

        return AGCCallback(self)
