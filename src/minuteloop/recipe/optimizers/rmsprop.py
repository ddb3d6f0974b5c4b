"""RMSProp."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.validation import integer, number


@dataclass
class RMSProp:
    """RMSProp as TensorFlow has it, timm's: the mean square begins at 1 and `eps` is inside the root (Tan 2019).

    The automatic learning rate is `lr` per `base_batch_size` images of the batch (Tan 2021, sec. 5.1).
    """

    lr: float = number(0.256, 0, 10, "a learning rate")
    base_batch_size: int = integer(4096, 1, 1_000_000, "a batch size")
    decay: float = number(0.9, 0, 1, "a share")  # of the mean square, a step
    momentum: float = number(0.9, 0, 1, "a share")
    eps: float = number(1e-3, 0, 1, "a small number")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Peak learning rate for a batch size; the planned epochs do not matter."""
        return self.lr * batch_size / self.base_batch_size

    def __call__(self, groups, lr: float):
        """groups: torch parameter groups with their own weight decay -> torch.optim.Optimizer."""
        from timm.optim import RMSpropTF

        return RMSpropTF(groups, lr=lr, alpha=self.decay, momentum=self.momentum, eps=self.eps)
