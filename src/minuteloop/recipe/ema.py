"""Exponential moving average of the weights."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.schema import number


@dataclass
class EMA:
    """Evaluates an average over the last `window` of the run's steps, its time constant.

    DeiT's decay of 0.99996 over 300 epochs of 1,251 steps is a window of 1/15 of the run, so this fits any length.
    The decay rises to its final value as (1 + t) / (10 + t), TensorFlow's rule, so that early averages follow.
    """

    window: float = number(1 / 15, 1e-6, 1, "a share of the run")

    def decay(self, step: int, steps: int) -> float:
        """Weight of the average against the current weights after `step` of `steps` updates."""
        return min(1 - 1 / max(self.window * steps, 1.0), (1 + step) / (10 + step))

    def callback(self, steps: int):
        """The Lightning callback for a run of `steps` steps; after training the module holds the average."""
        import torch
        from pytorch_lightning.callbacks import WeightAveraging

        ema = self

        class Averaging(WeightAveraging):
            def __init__(self):
                super().__init__(multi_avg_fn=self._lerp)
                self.step = 0

            def on_train_batch_end(self, trainer, *args, **kwargs):
                self.step = trainer.global_step
                super().on_train_batch_end(trainer, *args, **kwargs)

            @torch.no_grad()
            def _lerp(self, averages, currents, _):
                weight = 1 - ema.decay(self.step, steps)
                if averages[0].is_floating_point():
                    torch._foreach_lerp_(averages, currents, weight)
                else:
                    torch._foreach_copy_(averages, currents)

        return Averaging()
