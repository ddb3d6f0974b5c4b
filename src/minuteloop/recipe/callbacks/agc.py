"""Adaptive gradient clipping."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.validation import number


@dataclass
class AGC:
    """Cuts each filter's gradient to `factor` times the filter's norm (Brock 2021b, sec. 4.1), the classifier's not.

    Filters shorter than `eps` count as that long. timm's arithmetic.
    """

    factor: float = number(0.01, 0, 1e6, "a share of a filter's norm")
    eps: float = number(1e-3, 0, 1, "a norm")

    def callback(self, steps: int):
        """The Lightning callback for a run of `steps` steps."""
        import pytorch_lightning as pl
        from timm.utils import adaptive_clip_grad

        agc = self

        class Clipping(pl.Callback):
            def on_before_optimizer_step(self, trainer, module, optimizer):
                clipped = [
                    parameter
                    for group in optimizer.param_groups
                    if group["name"] != "head"
                    for parameter in group["params"]
                ]
                adaptive_clip_grad(clipped, agc.factor, agc.eps)

        return Clipping()
