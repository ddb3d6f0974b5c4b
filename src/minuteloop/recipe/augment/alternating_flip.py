"""Alternating flip."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass
class AlternatingFlip:
    """Mirrors each image in every other epoch, starting at random with the first or the second (Jordan 2024, sec. 3.6).

    Replaces Flip in a recipe. Two consecutive epochs use both orientations of each image; with independent flips they
    do so half the time. The first orientation is a hash of the image and the run's seed, so a resumed run repeats it.
    """

    stage: ClassVar[str] = "source"

    def __call__(self, images, epoch, seed):
        """Flip uint8 images [N,3,H,W], as stored in the dataset."""
        mixed = images.sum((1, 2, 3)) * 0x9E3779B1 + seed * 0x85EBCA6B
        mixed = (mixed ^ (mixed >> 15)) * 0xC2B2AE35  # constants of MurmurHash3
        is_flipped = ((mixed >> 16) + epoch) % 2 == 1
        return images.flip(3).where(is_flipped.view(-1, 1, 1, 1), images)
