"""Optimizers, each with the rule that gives its learning rate where the recipe says `auto`."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field

from minuteloop.schema import ConfigError, number


@dataclass
class AdamW:
    """AdamW (Loshchilov 2019).

    The automatic learning rate is `lr` per `per_images` images of the batch at 300 epochs and more (DeiT, main.py);
    a shorter run takes 300 / epochs times that, up to `limit` times (found on CIFAR-10's validation split: at 4 and at
    10 epochs, with batches of 128 and of 256, ConvNeXt is best near 30 times).
    """

    lr: float = number(5e-4, 0, 10, "a learning rate")
    per_images: int = number(512, 1, 1_000_000, "a batch size", whole=True)
    limit: float = number(32.0, 1, 1e6, "a factor of at least 1")
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = number(1e-8, 0, 1, "a small number")

    def __post_init__(self) -> None:
        check_betas(self.betas)

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Peak learning rate for a batch size and the planned epochs."""
        return self.lr * batch_size / self.per_images * min(max(300 / epochs, 1.0), self.limit)

    def __call__(self, groups, lr: float):
        """groups: torch parameter groups with their own weight decay -> torch.optim.Optimizer."""
        import torch

        return torch.optim.AdamW(groups, lr=lr, betas=tuple(self.betas), eps=self.eps, fused=True)


def check_betas(betas: list[float]) -> None:
    """Raises ConfigError."""
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"betas={betas}, not two shares below 1")


@dataclass
class SGD:
    """SGD with momentum. The automatic learning rate is `lr` per `per_images` images of the batch (Goyal 2017).

    Biases and what else does not decay learn at `bias_factor` times the rate (64: Page 2018; Jordan 2024, sec. 3.3).
    """

    lr: float = number(0.1, 0, 100, "a learning rate")
    per_images: int = number(128, 1, 1_000_000, "a batch size", whole=True)
    momentum: float = number(0.9, 0, 1, "a share")
    nesterov: bool = True
    bias_factor: float = number(1.0, 0, 1e6, "a factor")

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ConfigError("nesterov=true needs a momentum above 0")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Peak learning rate for a batch size; the planned epochs do not matter."""
        return self.lr * batch_size / self.per_images

    def __call__(self, groups, lr: float):
        """groups: torch parameter groups with their own weight decay -> torch.optim.Optimizer."""
        import torch

        groups = [
            group | {"lr": lr * self.bias_factor} if group.get("name") == "no_decay" else group for group in groups
        ]
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov, fused=True)


def parameter_groups(net, weight_decay: float) -> list[dict]:
    """Named groups: the classifier's weight (head), depthwise filters, all other weights of two or more dimensions
    (matrix), and what does not decay: norms, biases, gains and layer scales (DeiT), and what a `no_weight_decay()` of
    the net names, where * is any text (timm). The classifier is the last layer, or what `classifiers()` of the net
    gives. Frozen parameters are in none.
    """
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    weights = [p for p in parameters if p.ndim > 1]
    own = {id(p) for p in (net.classifiers().parameters() if hasattr(net, "classifiers") else weights[-1:])}
    head = [p for p in weights if id(p) in own]
    patterns = getattr(net, "no_weight_decay", set)()
    told = {p for name, p in net.named_parameters() for pattern in patterns if fnmatch.fnmatch(name, pattern)}
    no_decay = [p for p in parameters if p.ndim == 0 or p.numel() == len(p) or p in told]
    still = {id(p) for p in no_decay}
    depthwise = [p for p in parameters if p.ndim > 2 and p.shape[1] == 1 and id(p) not in still]
    apart = {id(p) for p in (*head, *depthwise, *no_decay)}
    matrix = [p for p in parameters if id(p) not in apart]
    groups = {"matrix": matrix, "depthwise": depthwise, "head": head, "no_decay": no_decay}
    return [
        {"name": name, "params": params, "weight_decay": 0.0 if name == "no_decay" else weight_decay}
        for name, params in groups.items()
        if params
    ]
