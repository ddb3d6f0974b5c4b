"""LAMB."""

from __future__ import annotations

from dataclasses import dataclass, field

from minuteloop.recipe.optimizers.adamw import check_betas
from minuteloop.validation import integer, number


@dataclass
class LAMB:
    """LAMB, timm's (You 2020): AdamW whose update of a tensor is as long as the tensor itself, times the rate.

    The automatic learning rate is `lr` per the square root of `base_batch_size` images of the batch (You 2020, sec. 4) at
    `epochs` epochs and more; a shorter run takes epochs / planned epochs times that, up to `max_lr_scale` times. What does not
    decay is not rescaled, and gradients are cut to a norm of 1 first, both timm's defaults (Wightman 2021 used them).
    """

    lr: float = number(5e-3, 0, 10, "a learning rate")
    base_batch_size: int = integer(2048, 1, 1_000_000, "a batch size")
    epochs: float = number(100.0, 1, 1e6, "a number of epochs")
    max_lr_scale: float = number(8.0, 1, 1e6, "a factor of at least 1")
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = number(1e-6, 0, 1, "a small number")

    def __post_init__(self) -> None:
        check_betas(self.betas)

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Peak learning rate for a batch size and the planned epochs."""
        return (
            self.lr
            * (batch_size / self.base_batch_size) ** 0.5
            * min(max(self.epochs / epochs, 1.0), self.max_lr_scale)
        )

    def __call__(self, groups, lr: float):
        """groups: torch parameter groups with their own weight decay -> torch.optim.Optimizer."""
        from timm.optim import Lamb

        return Lamb(groups, lr=lr, betas=tuple(self.betas), eps=self.eps)
