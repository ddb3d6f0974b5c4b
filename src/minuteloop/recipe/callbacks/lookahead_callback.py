"""The Lightning callback of Lookahead."""

import pytorch_lightning as pl
import torch

from minuteloop.recipe.callbacks.lookahead import Lookahead


class LookaheadCallback(pl.Callback):
    """Keeps slow weights and resets those of `module.net` to them every few steps, and at the end of the run."""

    def __init__(self, lookahead: Lookahead, steps: int) -> None:
        self.lookahead, self.steps = lookahead, steps
        self.fast, self.slow, self.global_step = [], [], 0

    def state_dict(self) -> dict:
        return {"slow": self.slow}

    def load_state_dict(self, state_dict: dict) -> None:
        self.slow = state_dict["slow"]

    def on_train_start(self, trainer, module) -> None:
        self.fast = [tensor for tensor in module.net.state_dict().values() if tensor.is_floating_point()]
        loaded = self.slow or self.fast
        self.slow = [saved.to(fast.device, copy=True) for saved, fast in zip(loaded, self.fast, strict=True)]
        self.global_step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer, module, *_) -> None:
        if trainer.global_step == self.global_step:  # the optimizer accumulates gradients
            return
        self.global_step = trainer.global_step
        if trainer.global_step % self.lookahead.every == 0:
            progress = min(trainer.global_step / self.steps, 1.0)  # a calibration may be longer
            decay = self.lookahead.decay**self.lookahead.every * progress**self.lookahead.power
            torch._foreach_lerp_(self.slow, self.fast, 1 - decay)
            torch._foreach_copy_(self.fast, self.slow)

    @torch.no_grad()
    def on_train_end(self, trainer, module) -> None:
        torch._foreach_copy_(self.fast, self.slow)
        self.fast, self.slow = [], []
