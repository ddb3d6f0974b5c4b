"""Exponential moving average of the weights."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.validation import number


@dataclass
class EMA:
    """Evaluates and keeps an average over the last `window` of the run's steps, its time constant.

    DeiT's decay of 0.99996 over 300 epochs of 1,251 steps is a window of 1/15 of the run, so this fits any length.
    The decay rises to its final value as (1 + t) / (10 + t), TensorFlow's rule, so that early averages follow.
    """

    window: float = number(1 / 15, 1e-6, 1, "a share of the run")

    def decay(self, step: int, steps: int) -> float:
        """Weight of the average against the current weights after `step` of `steps` updates."""
        return min(1 - 1 / max(self.window * steps, 1.0), (1 + step) / (10 + step))

    def callback(self, steps: int):
        """The Lightning callback for a run of `steps` steps; the module holds the average in evaluation and after.

        Floating-point buffers, such as batch norm's statistics, are averaged too. Lightning's own WeightAveraging
        copies to the host and waits for the device at every step.
        """
        import pytorch_lightning as pl
        import torch

        ema = self

        class Averaging(pl.Callback):
            def __init__(self):
                self.current, self.averages, self.step = [], [], 0

            def state_dict(self):
                return {"averages": self.averages, "step": self.step}

            def load_state_dict(self, state):
                self.averages, self.step = state["averages"], state["step"]

            @torch.no_grad()
            def on_train_start(self, trainer, module):
                self.current = [tensor for tensor in module.net.state_dict().values() if tensor.is_floating_point()]
                loaded, self.averages = self.averages, [tensor.clone() for tensor in self.current]
                for average, kept in zip(self.averages, loaded, strict=bool(loaded)):
                    average.copy_(kept)

            @torch.no_grad()
            def on_train_batch_end(self, trainer, module, *_):
                self.step += 1
                torch._foreach_lerp_(self.averages, self.current, 1 - ema.decay(self.step, steps))

            def on_validation_start(self, trainer, module):
                self.swap()

            def on_validation_end(self, trainer, module):
                self.swap()

            def on_train_end(self, trainer, module):
                self.swap()
                self.current, self.averages = [], []  # the module holds the averages now

            @torch.no_grad()
            def swap(self):
                for average, tensor in zip(self.averages, self.current, strict=True):
                    kept = tensor.clone()
                    tensor.copy_(average)
                    average.copy_(kept)

        return Averaging()
