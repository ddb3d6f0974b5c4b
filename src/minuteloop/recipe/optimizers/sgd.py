"""SGD with momentum."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.validation import ConfigError, integer, number


@dataclass
class SGD:
    """SGD with momentum. The automatic learning rate is `lr` per `base_batch_size` images of the batch (Goyal 2017).

    Biases and what else does not decay learn at `bias_factor` times the rate (64: Page 2018; Jordan 2024, sec. 3.3).
    """

    lr: float = number(0.1, 0, 100, "a learning rate")
    base_batch_size: int = integer(128, 1, 1_000_000, "a batch size")
    momentum: float = number(0.9, 0, 1, "a share")
    nesterov: bool = True
    bias_factor: float = number(1.0, 0, 1e6, "a factor")

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ConfigError("nesterov=true needs a momentum above 0")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Peak learning rate for a batch size; the planned epochs do not matter."""
        return self.lr * batch_size / self.base_batch_size

    def __call__(self, groups, lr: float):
        """groups: torch parameter groups with their own weight decay -> torch.optim.Optimizer."""
        import torch

        groups = [
            group | {"lr": lr * self.bias_factor} if group.get("name") == "no_decay" else group for group in groups
        ]
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov, fused=True)
