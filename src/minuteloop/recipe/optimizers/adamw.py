"""Optimizers, each with the rule that gives its learning rate where the recipe says `auto`."""

from __future__ import annotations

from dataclasses import dataclass, field

from minuteloop.validation import ConfigError, integer, number


@dataclass
class AdamW:
    """AdamW (Loshchilov 2019).

    The automatic learning rate is `lr` per `base_batch_size` images of the batch at 300 epochs and more (DeiT, main.py);
    a shorter run takes 300 / epochs times that, up to `max_lr_scale` times (found on CIFAR-10's validation split: at 4 and at
    10 epochs, with batches of 128 and of 256, ConvNeXt is best near 30 times).
    """

    lr: float = number(5e-4, 0, 10, "a learning rate")
    base_batch_size: int = integer(512, 1, 1_000_000, "a batch size")
    max_lr_scale: float = number(32.0, 1, 1e6, "a factor of at least 1")
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = number(1e-8, 0, 1, "a small number")

    def __post_init__(self) -> None:
        check_betas(self.betas)

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Peak learning rate for a batch size and the planned epochs."""
        return self.lr * batch_size / self.base_batch_size * min(max(300 / epochs, 1.0), self.max_lr_scale)

    def __call__(self, groups, lr: float):
        """groups: torch parameter groups with their own weight decay -> torch.optim.Optimizer."""
        import torch

        return torch.optim.AdamW(groups, lr=lr, betas=tuple(self.betas), eps=self.eps, fused=True)


def check_betas(betas: list[float]) -> None:
    """Raises ConfigError."""
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"betas={betas}, not two shares below 1")
