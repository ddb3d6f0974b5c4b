"""Exponential moving average of the weights."""

from dataclasses import dataclass

from minuteloop.validation import number


@dataclass
class EMA:
    """Averages the weights with decay 1 - 1 / (window * steps) and evaluates and keeps the average.

    `window` is the average's time constant as a fraction of the run, so that one value fits runs of any length: DeiT's
    decay of 0.99996 over 300 epochs of 1,251 steps is a window of 1/15. Early in the run the decay is at most
    (1 + t) / (10 + t) at step t, TensorFlow's rule, so that the average follows the first steps.
    """

    window: float = number(1 / 15, 1e-6, 1, "time constant of the average", "fraction of the run")

    def decay(self, step: int, steps: int) -> float:
        """Return the weight of the average against the current weights after `step` of `steps` updates."""
        return min(1 - 1 / max(self.window * steps, 1.0), (1 + step) / (10 + step))

    def callback(self, steps: int):
        """Return the Lightning callback for a run of `steps` steps."""
        from minuteloop.recipe.callbacks.ema_callback import EMACallback

        return EMACallback(self, steps)
