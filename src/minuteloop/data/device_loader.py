"""Batches indexed from a dataset that is one uint8 tensor on the training device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

CHUNK = 4096  # images that the pipeline takes at once (at least one batch): with small batches, call overhead dominates


class ChunkPipeline(Protocol):
    """The part of augmentation that runs on several consecutive batches at once."""

    def chunk(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Map uint8 images [N,3,H,W] and int64 labels [N] to uint8 images and targets, both still of length N.

        `step` is the optimizer step of the chunk's first batch, counted from the start of the run.
        """


class DeviceLoader:
    """Iterates over (images uint8 [N,3,H,W], labels int64 [N]) on one device, without workers or host copies.

    Training (`seed` is set): each epoch is shuffled by (seed, epoch) and drops its incomplete last batch, so that
    shapes are static. With `repeats` above 1 a batch contains each of its images that often, and an epoch of the same
    number of batches covers 1 / repeats of the images (Hoffer 2020). Evaluation: the order of `indices`; the last batch
    may be smaller.

    `epoch()` and `batches_done()` are read when iteration starts. A run that resumes within an epoch skips the batches
    done. A `pipeline` maps each chunk before it is cut into batches.

    Where an optimizer step accumulates the gradients of `accumulate` batches, an epoch drops its incomplete last step,
    and a chunk never ends within a step.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor,
        batch_size: int,
        *,
        seed: int | None = None,
        repeats: int = 1,
        epoch: Callable[[], int] = lambda: 0,
        batches_done: Callable[[], int] = lambda: 0,
        pipeline: ChunkPipeline | None = None,
        accumulate: int = 1,
    ) -> None:
        self.images, self.labels, self.indices = images, labels, indices
        self.batch_size, self.seed, self.repeats = batch_size, seed, repeats
        self.epoch, self.batches_done, self.pipeline, self.accumulate = epoch, batches_done, pipeline, accumulate

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        if self.seed is not None:
            return len(self.indices) // (self.batch_size * self.accumulate) * self.accumulate
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, done, size = self.epoch(), self.batches_done(), self.batch_size
        order = self.indices if self.seed is None else self._shuffled(epoch)
        accumulate = self.accumulate
        stride = max(1, CHUNK // (size * accumulate)) * accumulate  # batches of a chunk
        # chunks start at multiples of the stride, also after a resume: their random draws depend on their first step
        for first in range(done - done % stride, len(self), stride):
            selected = order[first * size : min(first + stride, len(self)) * size]
            images, targets = self.images.index_select(0, selected), self.labels[selected]
            if self.pipeline is not None:
                step = (epoch * len(self) + first) // accumulate
                images, targets = self.pipeline.chunk(images, targets, epoch, step)
            batches = zip(images.split(size), targets.split(size), strict=True)
            yield from islice(batches, max(done - first, 0), None)

    def _shuffled(self, epoch: int) -> Tensor:
        """Return the indices in the order of `epoch`, the first ones `repeats` times each.

        Within a batch, copies of an image are not adjacent: all first copies come before all second ones.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        device = self.indices.device
        order = self.indices[torch.randperm(len(self.indices), generator=generator).to(device)]
        copies = torch.cat([torch.arange(copy, self.batch_size, self.repeats) for copy in range(self.repeats)])
        order = order.repeat_interleave(self.repeats)[: len(self) * self.batch_size]
        return order.view(-1, self.batch_size)[:, copies.to(device)].flatten()
