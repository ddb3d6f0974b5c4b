"""Draw disjoint random subsets of a batch, and change only their images."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def draw_subsets(n: int, unit: float, weights: Sequence[int], device: torch.device) -> tuple[Tensor, list[int]]:
    """Draw disjoint random subsets of a batch of `n` images.

    Each image is in subset k with probability exactly unit * weights[k]; together at most 1. The sizes of the subsets
    follow from `n` and the probabilities alone (stratified sampling), so nothing waits for the device. Two images of
    a batch are less likely to share a subset than under independent draws.

    How it works, for n = 7 and weights [1]:

    - unit = 0.25: on average 1.75 images are drawn. Draw 2 slots, from 2 / 0.25 = 8 candidates: the 7 images, and one
      blank that is no image. Each image gets a slot with probability 2 / 8 = 0.25.
    - unit = 0.4: 3 slots from 3 / 0.4 = 7.5 candidates. Use 7 candidates with probability p, else 8. Each image
      needs p * 3 / 7 + (1 - p) * 3 / 8 = 0.4, so p = 7 * (8 / 7.5 - 1) = 0.47.

    With more weights, subset k gets weights[k] times as many slots, all drawn from the same candidates.

    Returns:
        rows: int64, the image of each slot, subset after subset; the row `n` is a blank.
        sizes: number of slots of each subset.
    """
    slots = math.ceil(unit * n - 1e-9)  # for a weight of 1
    sizes = [slots * weight for weight in weights]
    if not slots:
        return torch.zeros(0, dtype=torch.int64, device=device), sizes
    candidates = slots / unit
    fewer = math.floor(candidates + 1e-9)
    keys = torch.rand(fewer + 1, device=device)
    # with probability p, move the last candidate behind all others
    keys[-1:] += torch.rand(1, device=device) < fewer * ((fewer + 1) / candidates - 1)
    return keys.argsort()[: sum(sizes)].clamp_(max=n), sizes


def gather_rows(images: Tensor, rows: Tensor) -> Tensor:
    """Return the images of the slots of `draw_subsets`, [len(rows),...]; a blank holds the last image."""
    return images.index_select(0, rows.clamp(max=len(images) - 1))


def scatter_rows(images: Tensor, rows: Tensor, *changed: Tensor) -> Tensor:
    """Return a copy of `images` with the tensors `changed`, one after the other, in `rows`; blanks are dropped."""
    copy = images.new_empty(len(images) + 1, *images.shape[1:])  # the last row receives the blanks
    copy[:-1] = images
    _as_int64(copy).index_copy_(0, rows, _as_int64(torch.cat(changed)))
    return copy[:-1]


def apply_to_subsets(
    images: Tensor, rows: Tensor, sizes: list[int], operations: Sequence[Callable[..., Tensor]], *arguments: Tensor
) -> Tensor:
    """Return a copy of `images` with operation k applied to subset k of `draw_subsets`.

    arguments: [len(rows)] each, one value per slot, passed on after the images.
    """
    subsets = zip(*(slots.split(sizes) for slots in (gather_rows(images, rows), *arguments)), strict=True)
    changed = [operation(*subset) for operation, subset in zip(operations, subsets, strict=True)]
    return scatter_rows(images, rows, *changed)


def _as_int64(images: Tensor) -> Tensor:
    """View as [N,values] of 8 bytes where the size allows: a CPU copies them many times faster than bytes."""
    flat = images.flatten(1)
    return flat.view(torch.int64) if flat.shape[1] * flat.element_size() % 8 == 0 else flat
