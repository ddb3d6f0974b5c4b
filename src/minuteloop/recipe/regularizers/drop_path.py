"""Stochastic depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class DropPath:
    """Drops a block's branch for single samples, linearly more often with depth up to `rate` (Huang 2016, sec. 3)."""

    rate: float = number(0.1, 0, 0.99, "a probability")
    strengthens: ClassVar[str] = "rate"

    def __call__(self, net):
        """Sets the rates of `net`'s blocks, before the first step."""
        net.set_drop_path(self.rate)
