"""Training steps written out, without Lightning: what our Trainer is compared with."""

from collections.abc import Callable

import torch
from torch import Tensor

from minuteloop.data.device_loader import DeviceLoader
from minuteloop.training.build import Parts
from minuteloop.training.classifier import Classifier


class BareLoop:
    """Runs the steps of a classifier in training mode; `module` is on its device already."""

    def __init__(self, module: Classifier, bf16: bool, clip_grad: float | None = None) -> None:
        self.module, self.bf16, self.clip_grad = module, bf16, clip_grad
        module.train()
        module.set_regularizers(0)
        made = module.configure_optimizers()
        self.optimizer, self.scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Take a step on normalized images [N,3,H,W] and soft targets [N,K]; return the loss."""
        module = self.module
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.bf16):
            loss = module.ingredients.loss(module.net(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        module.configure_gradient_clipping(self.optimizer, self.clip_grad)
        self.optimizer.step()
        self.scheduler.step()
        return loss.detach()


def training_loader(parts: Parts, module: Classifier, epoch: Callable[[], int] = lambda: 0) -> DeviceLoader:
    """Return the loader of a run's training images, on the config's device, augmented by the module's pipeline."""
    config, device = parts.config, torch.device(parts.config.device)
    return DeviceLoader(
        *(torch.from_numpy(array).to(device) for array in (parts.images.train_images, parts.images.train_labels)),
        parts.data.train_indices.to(device),
        config.recipe.batch_size,
        seed=config.seed,
        repeats=config.recipe.repeats,
        epoch=epoch,
        pipeline=module.pipeline,
    )
