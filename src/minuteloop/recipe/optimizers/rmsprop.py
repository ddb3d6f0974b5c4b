"""RMSProp."""

from dataclasses import dataclass

from minuteloop.validation import integer, number


@dataclass
class RMSProp:
    """TensorFlow's RMSProp (timm's): the mean square starts at 1 and `eps` is inside the square root (Tan 2019).

    The automatic learning rate is `base_lr` * batch size / `base_batch_size` (Tan 2021, sec. 5.1).
    """

    base_lr: float = number(0.256, 0, 10, "learning rate at the base batch size")
    base_batch_size: int = integer(4096, 1, 1_000_000, "batch size that base_lr is for", "images")
    weight_decay: float = number(1e-5, 0, 1e6, "L2; norms and biases have none (Tan 2021, sec. 5.1)")
    decay: float = number(0.9, 0, 1, "decay of the mean square per step")
    momentum: float = number(0.9, 0, 1, "momentum; 0 = none")
    eps: float = number(1e-3, 0, 1, "term added to the mean square")
    auto_lr_fields = ("base_lr", "base_batch_size")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Return the peak learning rate for a batch size; the planned epochs do not matter."""
        return self.base_lr * batch_size / self.base_batch_size

    def __call__(self, groups, lr: float):
        """Build the optimizer over parameter groups with their own weight decay."""
        from timm.optim import RMSpropTF

        return RMSpropTF(groups, lr=lr, alpha=self.decay, momentum=self.momentum, eps=self.eps)
