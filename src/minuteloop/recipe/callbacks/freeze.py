"""Parameters that are trained for a part of the run."""

import fnmatch
from dataclasses import dataclass

from minuteloop.validation import ConfigError, number, setting


@dataclass
class Freeze:
    """Freezes the parameters whose names match `pattern` after the first `fraction` of the run.

    airbench trains the bias of its whitening stem for 3 of 8 epochs (Jordan 2024, released code). From then on, the
    next convolution needs no gradient of its input, a tenth of a CPU step. Where all parameters up to some depth are
    frozen, the backward pass ends there (Brock 2017, FreezeOut).
    """

    pattern: str = setting("stem.0.bias", "names of the parameters; * matches any text")
    fraction: float = number(0.375, 0, 1, "length of their training", "fraction of the run")

    @property
    def starts(self) -> list[float]:
        """Return where a new phase of the run starts, as fractions of the run."""
        return [self.fraction]

    def parameters(self, net) -> list:
        """Return the parameters of `net` that match.

        Raises:
            ConfigError: if no trained parameter matches, or all of them do.
        """
        trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        matches = [parameter for name, parameter in trained.items() if fnmatch.fnmatch(name, self.pattern)]
        key = f"recipe.callbacks.freeze.pattern={self.pattern}"
        if not matches:
            raise ConfigError(f"{key}: must match a trained parameter, or use ~recipe.callbacks.freeze")
        if len(matches) == len(trained) and self.fraction < 1:
            raise ConfigError(f"{key}: must leave a parameter to train, but matches all")
        return matches

    def callback(self, steps: int):
        """Return the Lightning callback, which raises as `parameters` does when training starts."""
        from minuteloop.recipe.callbacks.freeze_callback import FreezeCallback

        return FreezeCallback(self)
