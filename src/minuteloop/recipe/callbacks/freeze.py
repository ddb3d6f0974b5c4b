"""Parameters that are trained for a part of the run."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from minuteloop.validation import ConfigError, number


@dataclass
class Freeze:
    """Trains the parameters whose names match `pattern` (* is any text) for the first `fraction` of the run only.

    airbench trains the bias of its whitening stem in 3 of 8 epochs (Jordan 2024, released code). Without it the next
    convolution needs no gradient of its input, which is a tenth of a CPU step. Where all parameters up to some depth
    are frozen, the backward pass ends there (Brock 2017, FreezeOut).
    """

    pattern: str = "stem.0.bias"
    fraction: float = number(0.375, 0, 1, "a fraction of the run")

    @property
    def starts(self) -> list[float]:
        """Of the phase without them, a fraction of the run."""
        return [self.fraction]

    def parameters(self, net) -> list:
        """Those of `net` that are trained at first. Raises ConfigError where no name matches, or every one."""
        trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        found = [parameter for name, parameter in trained.items() if fnmatch.fnmatch(name, self.pattern)]
        if not found:
            raise ConfigError(f"freeze.pattern={self.pattern}: no parameter has such a name; ~recipe.callbacks.freeze")
        if len(found) == len(trained) and self.fraction < 1:
            raise ConfigError(f"freeze.pattern={self.pattern}: every parameter has such a name; nothing would be left")
        return found

    def callback(self, steps: int):
        """The Lightning callback, which raises as `parameters` does when training starts."""
        import pytorch_lightning as pl

        freeze = self

        class Freezing(pl.Callback):
            def on_train_start(self, trainer, module):
                self.parameters = freeze.parameters(module.net)

            def on_train_batch_start(self, trainer, module, *_):
                for parameter in self.parameters:
                    parameter.requires_grad_(module.phase(trainer.global_step) < freeze.fraction)

            def on_train_end(self, trainer, module):
                for parameter in self.parameters:
                    parameter.requires_grad_()

        return Freezing()
