"""Dropout before the classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class Dropout:
    """Sets each value that the classifier reads to 0 with probability `rate`, the others grow (Srivastava 2014)."""

    rate: float = number(0.2, 0, 0.99, "a probability")
    strengthens: ClassVar[str] = "rate"

    def __call__(self, net):
        """Sets the rate of `net`'s head, before the first step."""
        net.set_dropout(self.rate)
