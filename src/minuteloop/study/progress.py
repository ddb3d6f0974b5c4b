"""How far a sweep is, in one line before each cell that trains."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from minuteloop.schema import parse_budget

log = logging.getLogger("minuteloop")


class Progress:
    """Counts the cells of a sweep and estimates the minutes that are left from those that have trained.

    A cell takes time in proportion to its budget; budgets of different units give no estimate.
    """

    def __init__(self, budgets: list[str]) -> None:
        """`budgets` are those of all cells, in order."""
        lengths = [parse_budget(budget) for budget in budgets]
        self.lengths = [amount for amount, _ in lengths]
        self.one_unit = len({unit for _, unit in lengths}) == 1
        self.trained = 0.0  # budgets of the cells that have trained here
        self.seconds = 0.0  # that these took

    @contextlib.contextmanager
    def cell(self, number: int) -> Iterator[None]:
        """Log which cell trains now, and measure how long it takes."""
        log.info(self.line(number))
        start = time.monotonic()
        yield
        self.trained += self.lengths[number]
        self.seconds += time.monotonic() - start

    def line(self, number: int) -> str:
        """Return 'cell 18 of 65, about 59 min to the end' for the cell that starts."""
        words = f"cell {number + 1} of {len(self.lengths)}"
        if not (self.trained and self.one_unit):
            return words
        minutes = sum(self.lengths[number:]) * self.seconds / self.trained / 60
        return (
            f"{words}, about {minutes:,.0f} min to the end" if minutes >= 1 else f"{words}, the end in under a minute"
        )
