"""Test-time views."""

from __future__ import annotations

from dataclasses import dataclass

from minuteloop.validation import integer


@dataclass
class TTA:
    """Classifies an image by several views of it: both mirrors and, with a shift, both diagonal moves of each.

    The views as they are weigh one half, the moved ones the other (Jordan 2024, sec. 3.5). Only evaluation sees them,
    and its figures stand apart from those of the plain image.
    """

    shift: int = integer(1, 0, 16, "a number of pixels")

    def __call__(self, classify, images):
        """classify: images [N,3,H,W] -> logits [N,K]; -> the views' mean logits [N,K]."""

        def both(shifted):
            return (classify(shifted) + classify(shifted.flip(3))) / 2

        logits = both(images)
        if self.shift:
            moved = [both(shift_reflecting(images, by)) for by in (-self.shift, self.shift)]
            logits = (logits + sum(moved) / 2) / 2
        return logits


def shift_reflecting(images, by: int):
    """images [N,3,H,W] moved down and right by `by` pixels; what comes in is reflected."""
    import torch

    height, width = images.shape[2:]
    padded = torch.nn.functional.pad(images, [abs(by)] * 4, mode="reflect")
    start = abs(by) - by
    return padded[:, :, start : start + height, start : start + width]
