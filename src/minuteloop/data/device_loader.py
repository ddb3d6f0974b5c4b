"""Batches cut by index from a dataset that lies on the training device as one uint8 tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

CHUNK = 4096  # images that are prepared at once, or one batch: small batches would be bound by the calls


class DeviceLoader:
    """Iterates over (images uint8 [N,3,H,W], labels int64 [N]) of one device; no workers, no copies to the host.

    In training each epoch has its own order, a function of (seed, epoch), and only whole batches, so that shapes are
    static; it begins after the batches `met` already, so that a run resumed within an epoch goes on. With `repeats`
    above 1 a batch holds each of its images that often, not side by side, and an epoch of as many batches meets
    1 / repeats of the images (Hoffer 2020). In evaluation the order is that of `indices` and the last batch may be
    smaller.

    `prepare`, a function (images, labels, epoch, step) of a few batches in a row, the first of them that of `step`
    (counted from the first epoch on), gives what is cut into batches in their place.
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
        met: Callable[[], int] = lambda: 0,
        prepare: Callable[..., tuple[Tensor, Tensor]] = lambda images, labels, epoch, step: (images, labels),
    ) -> None:
        self.images, self.labels, self.indices = images, labels, indices
        self.batch_size, self.seed, self.repeats, self.epoch, self.met = batch_size, seed, repeats, epoch, met
        self.prepare = prepare

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.indices), self.batch_size)
        return whole + (self.seed is None and rest > 0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order, epoch, met, size = self.indices, self.epoch(), self.met(), self.batch_size
        if self.seed is not None:
            shuffle = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = self._repeated(order[torch.randperm(len(order), generator=shuffle).to(order.device)])
        at_once = max(1, CHUNK // size)
        for first in range(met - met % at_once, len(self), at_once):
            chosen = order[first * size : min(first + at_once, len(self)) * size]
            chunk = self.images.index_select(0, chosen), self.labels[chosen]
            chunk = self.prepare(*chunk, epoch, epoch * len(self) + first)
            yield from islice(zip(*(part.split(size) for part in chunk), strict=True), max(met - first, 0), None)

    def _repeated(self, order: Tensor) -> Tensor:
        """`order` with its first images `repeats` times each; in a batch all first copies stand before the second."""
        size, copies = len(self) * self.batch_size, range(self.repeats)
        apart = torch.cat([torch.arange(copy, self.batch_size, self.repeats) for copy in copies]).to(order.device)
        return order.repeat_interleave(self.repeats)[:size].view(-1, self.batch_size)[:, apart].flatten()
