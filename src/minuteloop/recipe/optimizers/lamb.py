"""LAMB."""

from dataclasses import dataclass

from minuteloop.recipe.optimizers.adamw import beta_pair, short_run_scale
from minuteloop.validation import integer, number


@dataclass
class LAMB:
    """LAMB: AdamW with updates scaled to lr times the norm of their tensor (You 2020; timm's).

    The automatic learning rate is `base_lr` * sqrt(batch size / `base_batch_size`) (You 2020, sec. 4), times
    `epochs` / planned epochs in shorter runs, up to `max_lr_scale` times. Parameters without weight decay are not
    rescaled, and gradients are clipped to norm 1 first, both defaults of timm (as in Wightman 2021).
    """

    base_lr: float = number(5e-3, 0, 10, "learning rate at the base batch size, from `epochs` on")
    base_batch_size: int = integer(2048, 1, 1_000_000, "batch size that base_lr is for", "images")
    epochs: float = number(100.0, 1, 1e6, "length of run that base_lr is for", "epochs")
    max_lr_scale: float = number(8.0, 1, 1e6, "largest factor on base_lr in short runs")
    weight_decay: float = number(
        0.02, 0, 1e6, "added to the update; norms and biases have none (Wightman 2021, table 2)"
    )
    betas: list[float] = beta_pair([0.9, 0.999], "decay rates of the gradient's mean and mean square")
    eps: float = number(1e-6, 0, 1, "term added to the denominator")
    auto_lr_fields = ("base_lr", "base_batch_size", "epochs", "max_lr_scale")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Return the peak learning rate for a batch size and the planned epochs."""
        scale = short_run_scale(epochs, self.epochs, self.max_lr_scale)
        return self.base_lr * (batch_size / self.base_batch_size) ** 0.5 * scale

    def __call__(self, groups, lr: float):
        """Build the optimizer over parameter groups with their own weight decay."""
        from timm.optim import Lamb

        return Lamb(groups, lr=lr, betas=tuple(self.betas), eps=self.eps)
