"""Stochastic depth."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import number


@dataclass
class DropPath:
    """Drops a block's branch for single samples, with a rate that grows linearly with depth (Huang 2016, sec. 3)."""

    rate: float = number(0.1, 0, 0.99, "drop rate of the last block")
    strengthens: ClassVar[str] = "rate"
    needs: ClassVar[str] = "drop_path"

    def __call__(self, net):
        """Set the rates of the blocks of `net`; call before the first step."""
        net.set_drop_path(self.rate)
