"""SGD with momentum."""

from dataclasses import dataclass

from minuteloop.validation import ConfigError, integer, number, setting


@dataclass
class SGD:
    """SGD with momentum.

    The automatic learning rate is `base_lr` * batch size / `base_batch_size` (Goyal 2017). Parameters without weight
    decay, such as biases, use `bias_factor` times the rate (64: Page 2018; Jordan 2024, sec. 3.3).
    """

    base_lr: float = number(0.1, 0, 100, "learning rate at the base batch size")
    base_batch_size: int = integer(128, 1, 1_000_000, "batch size that base_lr is for", "images")
    weight_decay: float = number(5e-4, 0, 1e6, "L2; norms and biases have none (Zagoruyko 2016, sec. 3)")
    momentum: float = number(0.9, 0, 1, "momentum; 0 = none")
    nesterov: bool = setting(True, "use Nesterov momentum")
    bias_factor: float = number(1.0, 0, 1e6, "factor on the learning rate of parameters without weight decay")
    auto_lr_fields = ("base_lr", "base_batch_size")

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ConfigError(f"momentum={self.momentum}: must be > 0 with nesterov=true")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Return the peak learning rate for a batch size; the planned epochs do not matter."""
        return self.base_lr * batch_size / self.base_batch_size

    def __call__(self, groups, lr: float):
        """Build the torch optimizer over parameter groups with their own weight decay."""
        import torch

        bias_lr = {"lr": lr * self.bias_factor}
        groups = [group | bias_lr if group.get("name") == "no_decay" else group for group in groups]
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov, fused=True)
