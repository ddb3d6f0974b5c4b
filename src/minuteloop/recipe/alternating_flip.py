"""Alternating flip."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class AlternatingFlip:
    """Mirrors each image in every other epoch; which half of them begins is random (Jordan 2024, sec. 3.6).

    It stands in for Flip, which beside it would undo it.

    Two epochs in a row so show each image both ways, which independent flips do half the time. The first way is a
    hash of the image and the run's seed, so that a run resumed in any epoch goes on as it was.
    """

    def callback(self, steps: int):
        """The Lightning callback; it turns the images of a batch before they are augmented."""
        import pytorch_lightning as pl
        import torch

        class Turning(pl.Callback):
            def on_train_batch_start(self, trainer, module, batch, batch_idx):
                images = batch[0]
                mixed = images.sum((1, 2, 3)) * 0x9E3779B1 + module.seed * 0x85EBCA6B
                mixed = (mixed ^ (mixed >> 15)) * 0xC2B2AE35  # MurmurHash3's constants
                turned = ((mixed >> 16) + trainer.current_epoch) % 2 == 1
                images.copy_(torch.where(turned.view(-1, 1, 1, 1), images.flip(3), images))

        return Turning()
