"""Batches cut by index from a dataset that lies on the training device as one uint8 tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


class DeviceLoader:
    """Iterates over (images uint8 [N,3,H,W], labels int64 [N]) of one device; no workers, no copies to the host.

    In training each epoch has its own order, a function of (seed, epoch), and only whole batches, so that shapes are
    static; it begins after the batches `met` already, so that a run resumed within an epoch goes on. With `repeats`
    above 1 a batch holds each of its images that often, not side by side, and an epoch of as many batches meets
    1 / repeats of the images (Hoffer 2020). In evaluation the order is that of `indices` and the last batch may be
    smaller.
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
    ) -> None:
        self.images, self.labels, self.indices = images, labels, indices
        self.batch_size, self.seed, self.repeats, self.epoch, self.met = batch_size, seed, repeats, epoch, met

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.indices), self.batch_size)
        return whole + (self.seed is None and rest > 0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.indices
        if self.seed is not None:
            shuffle = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
            order = self._repeated(order[torch.randperm(len(order), generator=shuffle).to(order.device)])
        for start in range(self.met() * self.batch_size, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self.images.index_select(0, chosen), self.labels[chosen]

    def _repeated(self, order: Tensor) -> Tensor:
        """`order` with its first images `repeats` times each; in a batch all first copies stand before the second."""
        size, copies = len(self) * self.batch_size, range(self.repeats)
        apart = torch.cat([torch.arange(copy, self.batch_size, self.repeats) for copy in copies]).to(order.device)
        return order.repeat_interleave(self.repeats)[:size].view(-1, self.batch_size)[:, apart].flatten()
