"""The Lightning callback of AGC."""

import pytorch_lightning as pl
from timm.utils import adaptive_clip_grad

from minuteloop.recipe.callbacks.agc import AGC


class AGCCallback(pl.Callback):
    """Clips the gradients of all parameter groups but the one named head."""

    def __init__(self, agc: AGC) -> None:
        self.agc = agc

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        groups = [group["params"] for group in optimizer.param_groups if group["name"] != "head"]
        parameters = [parameter for group in groups for parameter in group]
        adaptive_clip_grad(parameters, self.agc.factor, self.agc.eps)
