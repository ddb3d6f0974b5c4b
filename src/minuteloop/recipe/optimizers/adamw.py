"""AdamW."""

from dataclasses import dataclass
from typing import Any

from minuteloop.validation import custom, integer, number


def beta_pair(default: list[float], help: str) -> Any:
    """Declare a field that holds two decay rates."""
    return custom(default, _are_betas, "must be two numbers in [0, 1)", help)


def _are_betas(values: list[float]) -> bool:
    return len(values) == 2 and all(0 <= value < 1 for value in values)


def short_run_scale(epochs: float, reference: float, max_scale: float) -> float:
    """Return the factor on the learning rate of a run shorter than `reference` epochs: in [1, max_scale]."""
    return min(max(reference / epochs, 1.0), max_scale)


@dataclass
class AdamW:
    """AdamW (Loshchilov 2019).

    The automatic learning rate is `base_lr` * batch size / `base_batch_size` (DeiT, main.py), times 300 / epochs in
    runs of fewer than 300 epochs, up to `max_lr_scale` times. The limit was measured on CIFAR-10's validation split:
    at 4 and at 10 epochs, with batch sizes 128 and 256, ConvNeXt is best near 30 times.
    """

    base_lr: float = number(5e-4, 0, 10, "learning rate at the base batch size, from 300 epochs on")
    base_batch_size: int = integer(512, 1, 1_000_000, "batch size that base_lr is for", "images")
    max_lr_scale: float = number(32.0, 1, 1e6, "largest factor on base_lr in short runs")
    weight_decay: float = number(0.05, 0, 1e6, "decoupled; norms and biases have none (Touvron 2021, table 9)")
    betas: list[float] = beta_pair([0.9, 0.999], "decay rates of the gradient's mean and mean square")
    eps: float = number(1e-8, 0, 1, "term added to the denominator")
    auto_lr_fields = ("base_lr", "base_batch_size", "max_lr_scale")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Return the peak learning rate for a batch size and the planned epochs."""
        return self.base_lr * batch_size / self.base_batch_size * short_run_scale(epochs, 300, self.max_lr_scale)

    def __call__(self, groups, lr: float):
        """Build the torch optimizer over parameter groups with their own weight decay."""
        import torch

        return torch.optim.AdamW(groups, lr=lr, betas=tuple(self.betas), eps=self.eps, fused=True)
