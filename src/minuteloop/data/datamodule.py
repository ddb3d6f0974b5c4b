"""CIFAR as a LightningDataModule."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from minuteloop.data.cifar import Images, split
from minuteloop.data.device_loader import ChunkPipeline, DeviceLoader
from minuteloop.validation import ConfigError

EVAL_BATCH = 1000  # images


class CIFARDataModule(pl.LightningDataModule):
    """Training, validation and test loaders over `images`, which move once to the trainer's device.

    `holdout` training images form the validation split, the same for every seed; `repeats` is DeviceLoader's.
    `pipeline` augments the training images; without one, batches are plain uint8 images and int64 labels. It may be
    replaced between fits, and must be the one that the trained module finishes the batches with:
    `CIFARDataModule(images, batch_size, pipeline=module.pipeline)`.

    Every process of a distributed trainer gets the same batches of `batch_size` images; the module trains on its
    process's slice of them, and evaluates all images. Predictions are those of the test images.

    Raises:
        ConfigError: if a batch is larger than the training split.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        holdout: int = 5000,
        seed: int = 0,
        repeats: int = 1,
        pipeline: ChunkPipeline | None = None,
    ) -> None:
        super().__init__()
        self.dataset, self.batch_size, self.seed, self.repeats = images, batch_size, seed, repeats
        self.pipeline = pipeline
        self.device: torch.device | None = None  # of the images
        self.train_indices, self.val_indices = map(torch.from_numpy, split(images.train_labels, holdout))
        if batch_size > len(self.train_indices):
            raise ConfigError(
                f"recipe.batch_size={batch_size}: must be at most {len(self.train_indices)}, the training images"
            )

    def first_training_images(self, count: int) -> torch.Tensor:
        """Return the first `count` training images, or all if there are fewer: float32 [count,3,H,W], normalized."""
        images = torch.from_numpy(self.dataset.train_images)[self.train_indices[:count]]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.dataset.mean, self.dataset.std))
        return (images / 255 - mean) / std

    def setup(self, stage: str) -> None:
        """Move the images to the trainer's device. Raises ConfigError where the trainer cannot split the batches."""
        if stage == "fit":
            self._check_trainer()
        device = self.trainer.strategy.root_device
        if self.device != device:
            arrays = (self.dataset.train_images, self.dataset.train_labels)
            self.train = [torch.from_numpy(array).to(device) for array in arrays]
            arrays = (self.dataset.test_images, self.dataset.test_labels)
            self.test = [torch.from_numpy(array).to(device) for array in arrays]
            self.device = device
        if hasattr(self.pipeline, "to"):  # nn.Module.to works in place
            self.pipeline.to(device)

    def _check_trainer(self) -> None:
        processes, accumulate = self.trainer.world_size, self.trainer.accumulate_grad_batches
        if self.batch_size % processes:
            raise ConfigError(
                f"recipe.batch_size={self.batch_size}: must be a multiple of {processes}, the processes that share it"
            )
        if any(isinstance(callback, pl.callbacks.GradientAccumulationScheduler) for callback in self.trainer.callbacks):
            raise ConfigError(
                "GradientAccumulationScheduler: must be accumulate_grad_batches=N, one value for all epochs"
            )
        if self.batch_size * accumulate > len(self.train_indices):
            raise ConfigError(
                f"accumulate_grad_batches={accumulate}: must be at most {len(self.train_indices) // self.batch_size}, "
                f"the batches of {self.batch_size} in {len(self.train_indices)} training images"
            )

    def train_dataloader(self) -> DeviceLoader:
        return DeviceLoader(
            *self.train,
            self.train_indices.to(self.device),
            self.batch_size,
            seed=self.seed,
            repeats=self.repeats,
            epoch=lambda: self.trainer.current_epoch,
            batches_done=lambda: self.trainer.fit_loop.batch_idx + 1,  # read after a checkpoint has restored the loops
            pipeline=self.pipeline,
            accumulate=self.trainer.accumulate_grad_batches,
        )

    def first_batch(self, pipeline: ChunkPipeline | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first training batch, uint8 images and labels as stored, or what `pipeline.chunk` makes of them.

        Needs a trainer, which has moved the images to their device.
        """
        loader = self.train_dataloader()
        loader.epoch = loader.batches_done = lambda: 0
        loader.pipeline = pipeline
        return next(iter(loader))

    def val_dataloader(self) -> DeviceLoader:
        return DeviceLoader(*self.train, self.val_indices.to(self.device), EVAL_BATCH)

    def test_dataloader(self) -> DeviceLoader:
        return DeviceLoader(*self.test, torch.arange(len(self.test[1]), device=self.device), EVAL_BATCH)

    def predict_dataloader(self) -> DeviceLoader:
        return self.test_dataloader()
