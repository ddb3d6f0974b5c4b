"""Alternating flip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass
class AlternatingFlip:
    """Mirrors each image in every other epoch; which half of them begins is random (Jordan 2024, sec. 3.6).

    It takes Flip's slot in a recipe. Two epochs in a row so show each image both ways, which independent flips do half
    the time. The first way is a hash of the image and the run's seed, so that a run resumed in any epoch goes on as it
    was.
    """

    stage: ClassVar[str] = "source"

    def __call__(self, images, epoch, seed):
        """uint8 images [N,3,H,W] as they lie in the dataset."""
        import torch

        mixed = images.sum((1, 2, 3)) * 0x9E3779B1 + seed * 0x85EBCA6B
        mixed = (mixed ^ (mixed >> 15)) * 0xC2B2AE35  # MurmurHash3's constants
        turned = ((mixed >> 16) + epoch) % 2 == 1
        return torch.where(turned.view(-1, 1, 1, 1), images.flip(3), images)
