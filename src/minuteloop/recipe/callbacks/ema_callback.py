"""The Lightning callback of EMA."""

import pytorch_lightning as pl
import torch

from minuteloop.recipe.callbacks.ema import EMA


class EMACallback(pl.Callback):
    """Averages weights and floating-point buffers; `module.net` holds the average in validation and after training.

    Lightning's own WeightAveraging copies to the CPU and waits for the device at every step.
    """

    def __init__(self, ema: EMA, steps: int) -> None:
        self.ema, self.steps = ema, steps
        self.current, self.averages, self.step = [], [], 0
        self.global_step, self.is_swapped = 0, False

    def state_dict(self) -> dict:
        return {"averages": self.averages, "step": self.step}

    def load_state_dict(self, state_dict: dict) -> None:
        self.averages, self.step = state_dict.get("averages", []), state_dict["step"]

    @torch.no_grad()
    def on_train_start(self, trainer, module) -> None:
        self.current = [tensor for tensor in module.net.state_dict().values() if tensor.is_floating_point()]
        loaded, self.averages = self.averages, [tensor.clone() for tensor in self.current]
        for average, saved in zip(self.averages, loaded, strict=bool(loaded)):
            average.copy_(saved)
        self.global_step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer, module, *_) -> None:
        if trainer.global_step == self.global_step:  # the optimizer accumulates gradients
            return
        self.step, self.global_step = self.step + 1, trainer.global_step
        torch._foreach_lerp_(self.averages, self.current, 1 - self.ema.decay(self.step, self.steps))

    def on_validation_start(self, trainer, module) -> None:
        self.swap()

    def on_validation_end(self, trainer, module) -> None:
        self.swap()

    def on_train_end(self, trainer, module) -> None:
        self.swap()
        self.current, self.averages = [], []  # the module holds the averages now

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the module's weights and the averages."""
        for average, tensor in zip(self.averages, self.current, strict=True):
            weight = tensor.clone()
            tensor.copy_(average)
            average.copy_(weight)
        self.is_swapped = not self.is_swapped

    def write_to(self, checkpoint: dict) -> None:
        """Put the averages into a checkpoint of weights only, and undo `swap` in a full one saved in validation."""
        if "callbacks" not in checkpoint:
            if not self.is_swapped:
                load_averages(checkpoint["state_dict"], self.averages)
        elif self.is_swapped:
            load_averages(checkpoint["state_dict"], self.averages)
            checkpoint["callbacks"][self.state_key]["averages"] = self.current


def load_averages(state_dict: dict, averages: list[torch.Tensor]) -> None:
    """Replace the net's weights in the state of a Classifier by their averages, if there are any."""
    tensors = {name: tensor for name, tensor in state_dict.items() if name.startswith("net.")}
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point()] if averages else []
    state_dict.update(zip(names, averages, strict=True))
