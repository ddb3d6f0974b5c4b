"""Look-ahead: slow weights that the fast ones return to."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.validation import integer, number


@dataclass
class Lookahead:
    """Every `every` steps the weights return to a slow average of themselves (Zhang 2019; Jordan 2024, sec. 3.4).

    The slow weights keep the share `decay ** every * progress ** power` of themselves; at the run's end the net
    is the slow weights. Floating-point buffers, such as batch norm's statistics, take part. It takes EMA's place.
    """

    every: int = integer(5, 1, 10_000, "a whole number of steps")
    decay: float = number(0.95, 0, 1, "a share")  # a step
    power: float = number(3.0, 0, 100, "a power of progress")

    def callback(self, steps: int):
        """The Lightning callback for a run of `steps` steps."""
        import pytorch_lightning as pl
        import torch

        lookahead = self

        class Returning(pl.Callback):
            def __init__(self):
                self.fast, self.slow = [], []

            def state_dict(self):
                return {"slow": self.slow}

            def load_state_dict(self, state):
                self.slow = state["slow"]

            def on_train_start(self, trainer, module):
                self.fast = [tensor for tensor in module.net.state_dict().values() if tensor.is_floating_point()]
                loaded = self.slow or self.fast
                self.slow = [old.to(new.device, copy=True) for old, new in zip(loaded, self.fast, strict=True)]

            @torch.no_grad()
            def on_train_batch_end(self, trainer, module, *_):
                if trainer.global_step % lookahead.every == 0:
                    progress = min(trainer.global_step / steps, 1.0)  # a calibration may be longer
                    kept = lookahead.decay**lookahead.every * progress**lookahead.power
                    torch._foreach_lerp_(self.slow, self.fast, 1 - kept)
                    torch._foreach_copy_(self.fast, self.slow)

            @torch.no_grad()
            def on_train_end(self, trainer, module):
                torch._foreach_copy_(self.fast, self.slow)
                self.fast, self.slow = [], []

        return Returning()
