"""Ghost batch norm."""

from dataclasses import dataclass
from typing import ClassVar

from minuteloop.validation import integer


@dataclass
class GhostBatchNorm:
    """Batch norm over groups of `ghost_batch_size` images within each training batch (Hoffer 2017, sec. 4).

    A batch that `ghost_batch_size` does not divide is normalized as one group.
    """

    ghost_batch_size: int = integer(32, 1, 1_000_000, "images that are normalized together", "images")
    needs: ClassVar[str] = "torch_batch_norm"

    def __call__(self, net):
        """Convert the batch norms of `net`; call before its optimizer is built.

        Raises:
            ConfigError: if the net has no batch norm, or a subclass of it, as some of timm's models do.
        """
        from minuteloop.recipe.regularizers.ghost_batch_norm_layer import convert

        convert(net, self.ghost_batch_size)
