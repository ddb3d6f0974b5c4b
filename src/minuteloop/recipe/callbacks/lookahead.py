"""Lookahead: slow weights that the fast ones return to."""

from dataclasses import dataclass

from minuteloop.validation import integer, number


@dataclass
class Lookahead:
    """Resets the weights to a slow average of themselves every `every` steps (Zhang 2019; Jordan 2024, sec. 3.4).

    The average keeps decay ** every * progress ** power of its value at each reset. At the end of the run the net holds
    the average. Floating-point buffers, such as batch norm's statistics, are averaged too. Replaces EMA in a recipe.
    """

    every: int = integer(5, 1, 10_000, "steps between two resets", "steps")
    decay: float = number(0.95, 0, 1, "decay of the average per step")
    power: float = number(3.0, 0, 100, "exponent of the run's progress in the decay")

    def callback(self, steps: int):
        """Return the Lightning callback for a run of `steps` steps."""
        from minuteloop.recipe.callbacks.lookahead_callback import LookaheadCallback

        return LookaheadCallback(self, steps)
