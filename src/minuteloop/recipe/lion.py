"""Lion."""

from __future__ import annotations

from dataclasses import dataclass, field

from minuteloop.recipe.optimizer import check_betas
from minuteloop.schema import number


@dataclass
class Lion:
    """Lion, timm's (Chen 2023): each weight moves by the rate, in the direction of its momentum's sign.

    The automatic learning rate is AdamW's rule with a tenth of its rate; weight decay wants to be 3 to 10 times AdamW's
    (Chen 2023, sec. 5).
    """

    lr: float = number(5e-5, 0, 10, "a learning rate")
    per_images: int = number(512, 1, 1_000_000, "a batch size", whole=True)
    limit: float = number(32.0, 1, 1e6, "a factor of at least 1")
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])

    def __post_init__(self) -> None:
        check_betas(self.betas)

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Peak learning rate for a batch size and the planned epochs."""
        return self.lr * batch_size / self.per_images * min(max(300 / epochs, 1.0), self.limit)

    def __call__(self, groups, lr: float):
        """groups: torch parameter groups with their own weight decay -> torch.optim.Optimizer."""
        from timm.optim import Lion

        return Lion(groups, lr=lr, betas=tuple(self.betas))
