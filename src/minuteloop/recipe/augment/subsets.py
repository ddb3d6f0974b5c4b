"""Different operations on disjoint random parts of a batch."""

from __future__ import annotations

import math


def strata(n: int, unit: float, weights, device):
    """Disjoint random parts of a batch of `n`: each image is in part k with probability unit * weights[k], at most 1
    together.

    Gives (rows, sizes): int64 rows of all parts, one part after the other, and how many belong to each; the row `n`
    stands for no image. Sizes follow from n and the probabilities alone (stratified sampling), so nothing waits for
    the device. Alone, each image meets the parts by exactly these probabilities; two images of one batch are less
    likely to meet the same part than two independent draws.
    """
    import torch

    each = math.ceil(unit * n - 1e-9)
    sizes = [each * weight for weight in weights]
    if not each:
        return torch.zeros(0, dtype=torch.int64, device=device), sizes
    # the parts have to be drawn from `places` rows, of which n are images; where that is no whole number, from as many
    # or one more, at random, so that the mean of 1 / rows is right
    places = each / unit
    fewer = math.floor(places + 1e-9)
    keys = torch.rand(fewer + 1, device=device)
    keys[-1:] += torch.rand(1, device=device) < fewer * ((fewer + 1) / places - 1)  # a key above 1 is sorted last
    return keys.argsort()[: sum(sizes)].clamp_(max=n), sizes


def take(images, rows):
    """The rows of `strata`, [len(rows),...]; a row for no image holds any."""
    return images.index_select(0, rows.clamp(max=len(images) - 1))


def put(images, rows, *changed):
    """A copy of `images` with what changed, in one part or several, in their rows."""
    import torch

    copy = images.new_empty(len(images) + 1, *images.shape[1:])  # the last row takes what is for no image
    copy[:-1] = images
    _words(copy).index_copy_(0, rows, _words(torch.cat(changed)))
    return copy[:-1]


def _words(images):
    """[N,values] of 8 bytes where an image is a multiple of that: on a CPU copied many times faster than bytes."""
    import torch

    flat = images.flatten(1)
    return flat.view(torch.int64) if flat.shape[1] * flat.element_size() % 8 == 0 else flat
