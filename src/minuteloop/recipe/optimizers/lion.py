"""Lion."""

from __future__ import annotations

from dataclasses import dataclass, field

from minuteloop.recipe.optimizers.adamw import check_betas
from minuteloop.validation import integer, number


@dataclass
class Lion:
    """Lion, timm's (Chen 2023): each weight moves by the rate, in the direction of its momentum's sign.

    The automatic learning rate is AdamW's rule with a tenth of its rate; weight decay wants to be 3 to 10 times AdamW's
    (Chen 2023, sec. 5).
    """

    lr: float = number(5e-5, 0, 10, "a learning rate")
    base_batch_size: int = integer(512, 1, 1_000_000, "a batch size")
    max_lr_scale: float = number(32.0, 1, 1e6, "a factor of at least 1")
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])

    def __post_init__(self) -> None:
        check_betas(self.betas)

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Peak learning rate for a batch size and the planned epochs."""
        return self.lr * batch_size / self.base_batch_size * min(max(300 / epochs, 1.0), self.max_lr_scale)

    def __call__(self, groups, lr: float):
        """groups: torch parameter groups with their own weight decay -> torch.optim.Optimizer."""
        from timm.optim import Lion

        return Lion(groups, lr=lr, betas=tuple(self.betas))
