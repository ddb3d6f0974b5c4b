"""The image operations of AutoAugment's family, batched: uint8 [N,3,H,W] and one argument an image, [N], to uint8.

The arithmetic is Pillow's, with its rounding, so that published policies mean the same here.
"""

from __future__ import annotations

import math
from functools import reduce
from operator import iadd

# --- point operations: a table of 256 values an image and channel -----------------------------------------------


def look_up(images, table):
    """table, uint8 [N,1 or 3,256] -> each pixel replaced by its value's entry."""
    n, channels = images.shape[:2]
    table = table.expand(n, channels, 256)
    return table.gather(2, images.flatten(2).long()).view_as(images)


def _values(images, dtype=None):
    import torch

    return torch.arange(256, device=images.device, dtype=dtype or torch.int32)


def invert(images):
    """255 - value."""
    return 255 - images


def posterize(images, bits):
    """Keeps the `bits` highest bits; 0 bits is a black image (Pillow before 13; later versions refuse)."""
    return images & (256 - 2 ** (8 - bits)).byte().view(-1, 1, 1, 1)


def solarize(images, threshold):
    """Inverts values from `threshold` on; 256 leaves the image as it is."""
    import torch

    value = _values(images)
    return look_up(images, torch.where(value < threshold.view(-1, 1, 1), value, 255 - value).byte())


def solarize_add(images, added):
    """Adds to values below 128."""
    import torch

    value = _values(images)
    return look_up(images, torch.where(value < 128, value + added.view(-1, 1, 1), value).clamp_(max=255).byte())


def brightness(images, factor):
    """0 is black, 1 the image."""
    import torch

    return look_up(images, _blend(0, _values(images, torch.float32), factor.view(-1, 1, 1)))


def contrast(images, factor):
    """0 is the image's mean grey, 1 the image."""
    import torch

    total = gray(images).flatten(1).sum(1)
    pixels = images.shape[2] * images.shape[3]
    mean = ((2 * total + pixels) // (2 * pixels)).view(-1, 1, 1)
    return look_up(images, _blend(mean, _values(images, torch.float32), factor.view(-1, 1, 1)))


def auto_contrast(images):
    """Stretches each channel to [0, 255]; a channel of one value stays."""
    import torch

    value = _values(images, torch.float64)
    low, high = (found.double()[..., None] for found in (images.amin((2, 3)), images.amax((2, 3))))
    scale = torch.full_like(low, 255) / (high - low)  # 255 / tensor would multiply by a rounded reciprocal
    stretched = (value * scale + -low * scale).clamp_(0, 255)
    return look_up(images, torch.where(high > low, stretched, value).byte())


def equalize(images):
    """Flattens each channel's histogram; a channel whose other values are fewer than 255 pixels stays."""
    import torch

    n, channels, height, width = images.shape
    index = images.flatten(2).long()
    one = torch.ones((), dtype=torch.int32, device=images.device).expand_as(index)
    counts = torch.zeros(n, channels, 256, dtype=torch.int32, device=images.device).scatter_add_(2, index, one)
    brightest = counts.gather(2, index.amax(2, keepdim=True))
    step = (height * width - brightest) // 255
    below = counts.cumsum(2, dtype=torch.int32) - counts
    flat = (step // 2 + below) // step.clamp(min=1)
    return look_up(images, torch.where(step > 0, flat, _values(images)).clamp_(max=255).byte())


# --- blends with a degenerate image -----------------------------------------------------------------------------


def _blend(degenerate, images, factor):
    """Float32 in this order and cut, not rounded, as Pillow's; a factor above 1 extrapolates."""
    return (degenerate + factor * (images - degenerate)).clamp_(0, 255).byte()


def gray(images):
    """uint8 [N,3,H,W] -> luma, int32 [N,1,H,W] (ITU-R 601-2 in 16-bit fixed point)."""
    red, green, blue = images.int().split(1, dim=1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def color(images, factor):
    """0 is the grey image, 1 the image."""
    return _blend(gray(images).float(), images.float(), factor.view(-1, 1, 1, 1))


def sharpness(images, factor):
    """0 is the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13 inside a border of one pixel, 1 the image."""
    sharp = images.float()
    height, width = images.shape[2:]
    rows = sharp[:, :, :-2] + sharp[:, :, 1:-1] + sharp[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = sharp.clone()
    smooth[:, :, 1 : height - 1, 1 : width - 1].mul_(4).add_(box).div_(13).add_(0.5).floor_()
    return _blend(smooth, sharp, factor.view(-1, 1, 1, 1))


# --- geometric operations ---------------------------------------------------------------------------------------

CUT = 5e-4  # float32 sums that belong on a whole number may fall this far below it


def warp(images, interpolation, fill, *, rotate=None, shear_x=None, shear_y=None, translate_x=None, translate_y=None):
    """Each output pixel from another place of its image; `fill` (3 values) where that lies outside.

    rotate in degrees counter-clockwise about the centre; shear_x in pixels along x a pixel of y, from the upper left
    corner; translate_x in pixels of the source. At the border the outermost pixels repeat. An axis along which
    nothing moves is not interpolated.
    """
    import torch

    n, channels, height, width = images.shape
    x = torch.arange(width, device=images.device)[None]
    y = torch.arange(height, device=images.device)[:, None]
    from_x = from_y = None  # how far off a pixel's source is, [N,H or 1,W or 1]
    if rotate is not None:
        angle = rotate.view(-1, 1, 1) * (math.pi / 180)
        cos, sin = angle.cos() - 1, angle.sin()
        from_centre_x, from_centre_y = x + (0.5 - width / 2), y + (0.5 - height / 2)
        from_x = cos * from_centre_x - sin * from_centre_y
        from_y = cos * from_centre_y + sin * from_centre_x
    from_x = _moved(from_x, y, shear_x, translate_x)
    from_y = _moved(from_y, x, shear_y, translate_y)
    columns, across, beside = _taps(x, from_x, interpolation, width)
    rows, down, above = _taps(y, from_y, interpolation, height)
    taps = rows.shape[1] * columns.shape[1]
    taken = (rows[:, :, None] * width + columns[:, None]).view(n, 1, taps * height * width).expand(-1, channels, -1)
    pixels = images.flatten(2).float().gather(2, taken).view(n, channels, taps, height, width)
    pixels.mul_((down[:, :, None] * across[:, None]).flatten(1, 2)[:, None])
    warped = reduce(iadd, pixels.unbind(2)).add_(CUT).clamp_(0, 255).byte()
    outside = (beside | above).byte()
    warped.mul_(1 - outside[:, None])
    for channel, value in enumerate(fill):
        warped[:, channel].add_(outside, alpha=value)
    return warped


def one_warp(images, interpolation, fill, amounts):
    """`warp` by one of `amounts` (its arguments, each [N]), drawn evenly for each image."""
    import torch

    chosen = torch.randint(len(amounts), (len(images),), device=images.device)
    one = {name: amount * (chosen == k) for k, (name, amount) in enumerate(amounts.items())}
    return warp(images, interpolation, fill, **one)


def _moved(distance, across, shear, shift):
    moves = [] if distance is None else [distance]
    moves += [] if shear is None else [shear.view(-1, 1, 1) * (across + 0.5)]
    moves += [] if shift is None else [shift.view(-1, 1, 1)]
    return sum(moves) if moves else None


def _taps(pixel, distance, interpolation: str, side: int):
    """Of what is `distance` [N,H or 1,W or 1] from a pixel, along one axis: the pixels that make it, int64, their
    weights, float32, both [N,taps,H or 1,W or 1], and whether it lies outside, bool [N,H,W]."""
    import torch

    one = torch.ones(1, 1, 1, 1, device=pixel.device)
    if distance is None:
        return pixel.expand(1, 1, -1, -1), one, one[0] == 0
    place = distance + (pixel + 0.5)
    outside = place.clamp(0, side * (1 - 2**-24)) != place  # the last float32 before the border
    if interpolation == "nearest":
        return place.long().clamp_(0, side - 1)[:, None], one, outside
    first = distance.floor()
    d = distance - first
    if interpolation == "bilinear":
        weights = [1 - d, d]
    else:  # cubic convolution with a = -1 (Keys 1981), as Pillow's
        square = d * d
        cube = square * d
        weights = [2 * square - d - cube, 1 - 2 * square + cube, d + square - cube, cube - square]
    taps = len(weights)
    shift = torch.arange(taps, device=pixel.device).view(-1, 1, 1) - (taps // 2 - 1)
    return (first.long()[:, None] + (pixel + shift)).clamp_(0, side - 1), torch.stack(weights, dim=1), outside
