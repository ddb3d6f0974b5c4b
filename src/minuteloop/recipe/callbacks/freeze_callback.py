"""The Lightning callback of Freeze."""

import pytorch_lightning as pl

from minuteloop.recipe.callbacks.freeze import Freeze


class FreezeCallback(pl.Callback):
    """Freezes the matching parameters of `module.net` in the phases from `fraction` on, and thaws them at the end.

    Reads the phase of a step from `module.phase(step)`.
    """

    def __init__(self, freeze: Freeze) -> None:
        self.freeze, self.parameters = freeze, []

    def on_train_start(self, trainer, module) -> None:
        self.parameters = self.freeze.parameters(module.net)

    def on_train_batch_start(self, trainer, module, *_) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(module.phase(trainer.global_step) < self.freeze.fraction)

    def on_train_end(self, trainer, module) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_()
