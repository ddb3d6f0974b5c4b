"""Lion."""

from dataclasses import dataclass

from minuteloop.recipe.optimizers.adamw import beta_pair, short_run_scale
from minuteloop.validation import integer, number


@dataclass
class Lion:
    """Lion: each weight moves by lr in the direction of its momentum's sign (Chen 2023; timm's).

    The automatic learning rate is AdamW's rule at a tenth of its rate. The weight decay is ten times AdamW's,
    so that their product is the same (Chen 2023, sec. 5).
    """

    base_lr: float = number(5e-5, 0, 10, "learning rate at the base batch size, from 300 epochs on")
    base_batch_size: int = integer(512, 1, 1_000_000, "batch size that base_lr is for", "images")
    max_lr_scale: float = number(32.0, 1, 1e6, "largest factor on base_lr in short runs")
    weight_decay: float = number(0.5, 0, 1e6, "decoupled; norms and biases have none")
    betas: list[float] = beta_pair([0.9, 0.99], "decay rates of the update and of the momentum")
    auto_lr_fields = ("base_lr", "base_batch_size", "max_lr_scale")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Return the peak learning rate for a batch size and the planned epochs."""
        return self.base_lr * batch_size / self.base_batch_size * short_run_scale(epochs, 300, self.max_lr_scale)

    def __call__(self, groups, lr: float):
        """Build the optimizer over parameter groups with their own weight decay."""
        from timm.optim import Lion

        return Lion(groups, lr=lr, betas=tuple(self.betas))
