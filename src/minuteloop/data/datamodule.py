"""CIFAR as a LightningDataModule."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from minuteloop.data.cifar import Images, split
from minuteloop.data.device_loader import DeviceLoader
from minuteloop.validation import ConfigError

EVAL_BATCH = 1000  # images


class CIFARDataModule(pl.LightningDataModule):
    """Training, validation and test loaders over `images`, moved once to the trainer's device.

    Training batches have been through the trained module's `prepare`, where it has one. `holdout` training images are
    kept back for validation, always the same ones; `repeats` is DeviceLoader's. Raises ConfigError when the batch is
    larger than what is left to train on.
    """

    def __init__(self, images: Images, batch_size: int, holdout: int = 5000, seed: int = 0, repeats: int = 1) -> None:
        super().__init__()
        self.dataset, self.batch_size, self.seed, self.repeats = images, batch_size, seed, repeats
        self.train_indices, self.val_indices = map(torch.from_numpy, split(images.train_labels, holdout))
        if batch_size > len(self.train_indices):
            raise ConfigError(f"recipe.batch_size={batch_size}: there are {len(self.train_indices)} training images")

    def first_training_images(self, count: int) -> torch.Tensor:
        """float32 [count, 3, H, W], normalised; all of them where there are fewer."""
        images = torch.from_numpy(self.dataset.train_images)[self.train_indices[:count]]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.dataset.mean, self.dataset.std))
        return (images / 255 - mean) / std

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        if getattr(self, "device", None) != device:
            arrays = (self.dataset.train_images, self.dataset.train_labels)
            self.train = [torch.from_numpy(array).to(device) for array in arrays]
            arrays = (self.dataset.test_images, self.dataset.test_labels)
            self.test = [torch.from_numpy(array).to(device) for array in arrays]
            self.device = device

    def train_dataloader(self) -> DeviceLoader:
        indices, module = self.train_indices.to(self.device), self.trainer.lightning_module
        prepare = {"prepare": module.prepare} if hasattr(module, "prepare") else {}
        return DeviceLoader(
            *self.train,
            indices,
            self.batch_size,
            seed=self.seed,
            repeats=self.repeats,
            epoch=lambda: self.trainer.current_epoch,
            met=lambda: self.trainer.fit_loop.batch_idx + 1,  # asked with the first batch, where the loops are restored
            **prepare,
        )

    def val_dataloader(self) -> DeviceLoader:
        return DeviceLoader(*self.train, self.val_indices.to(self.device), EVAL_BATCH)

    def test_dataloader(self) -> DeviceLoader:
        return DeviceLoader(*self.test, torch.arange(len(self.test[1]), device=self.device), EVAL_BATCH)
