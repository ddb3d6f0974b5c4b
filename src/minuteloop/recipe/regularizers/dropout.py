"""Dropout before the classifier."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class Dropout:
    """Sets inputs of the classifier to 0 with probability `rate` and scales up the others (Srivastava 2014)."""

    rate: float = number(0.2, 0, 0.99, "probability that an input is dropped")
    strengthens: ClassVar[str] = "rate"
    needs: ClassVar[str] = "dropout"

    def __call__(self, net):
        """Set the dropout rate of the head of `net`; call before the first step."""
        net.set_dropout(self.rate)
