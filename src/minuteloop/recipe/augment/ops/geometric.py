"""Geometric operations of AutoAugment's family, batched: uint8 [N,3,H,W] -> uint8 [N,3,H,W].

Each output pixel is sampled from another position of its image. Positions outside the image give `fill` (3 values);
interpolation at the border repeats the outermost pixels. The arithmetic is Pillow's.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from minuteloop.recipe.augment.ops.tone import to_byte

ROUNDING = 5e-4  # float32 sums that belong on an integer may fall this far below it
REACH = 2  # pixels that an interpolation kernel reads beyond an image


def gather_windows(values: Tensor, starts: Tensor, length: int) -> Tensor:
    """Return `length` consecutive values of a flat tensor from each of `starts` on: [len(starts), length].

    Selects rows of an overlapping view, so that each window is one contiguous copy.
    """
    windows = values.as_strided((len(values) - length + 1, length), (1, 1))
    return windows.index_select(0, starts)


def slide_x(images: Tensor, distance: Tensor, interpolation: str, fill: Sequence[int]) -> Tensor:
    """Sample pixel x of line y at x + distance[n, y]; distance: float [N, H or 1], in pixels."""
    n, channels, height, width = images.shape
    first, weights = _kernel(distance, interpolation)
    # all lines one after the other; a margin of one width at both ends keeps every window inside the tensor
    padded_width = width + 2 * REACH
    lines = images.new_empty(2 * width + n * channels * height * padded_width)
    lines[width:-width].view(n, channels, height, padded_width).copy_(_pad(images))
    starts = _range(n * channels * height, images).view(n, channels, height) * padded_width + width + REACH
    starts = starts + first.clamp_(-width - 1, width - 1)[:, None]
    length = width + len(weights) - 1
    window = gather_windows(lines, starts.flatten(), length).view(n, channels, height, length).float()
    weights = [weight[:, None, :, None] for weight in weights]
    total = window[..., :width] * weights[0]
    for offset, weight in enumerate(weights[1:], 1):
        total.addcmul_(window[..., offset : offset + width], weight)
    return _fill(total, _is_outside(distance[..., None], _range(width, images)), fill)


def slide_y(images: Tensor, distance: Tensor, interpolation: str, fill: Sequence[int]) -> Tensor:
    """Do `slide_x` along the columns; distance: float [N, W or 1]."""
    return slide_x(images.transpose(2, 3), distance, interpolation, fill).transpose(2, 3)


def shear_x(images: Tensor, slope: Tensor, interpolation: str, fill: Sequence[int]) -> Tensor:
    """Shear along the lines by `slope` pixels per line, float [N]; the upper left corner stays."""
    return slide_x(images, _shear_distance(slope, images.shape[2]), interpolation, fill)


def shear_y(images: Tensor, slope: Tensor, interpolation: str, fill: Sequence[int]) -> Tensor:
    """Do `shear_x` along the columns."""
    return slide_y(images, _shear_distance(slope, images.shape[3]), interpolation, fill)


def _shear_distance(slope: Tensor, lines: int) -> Tensor:
    return slope[:, None] * (_range(lines, slope) + 0.5)


def rotate(images: Tensor, degrees: Tensor, interpolation: str, fill: Sequence[int]) -> Tensor:
    """Rotate counter-clockwise about the center by `degrees`, float [N]."""
    channels, height, width = images.shape[1:]
    x, y = _range(width, images), _range(height, images)[:, None]
    angle = degrees.view(-1, 1, 1) * (math.pi / 180)
    cos, sin = angle.cos() - 1, angle.sin()
    from_x, from_y = x + (0.5 - width / 2), y + (0.5 - height / 2)
    offset_x, offset_y = cos * from_x - sin * from_y, cos * from_y + sin * from_x  # [N,H,W]
    (left, weights_x), (top, weights_y) = _kernel(offset_x, interpolation), _kernel(offset_y, interpolation)
    padded = _pad(_pad(images).transpose(2, 3)).transpose(2, 3).float()
    rows, columns = padded.shape[2:]
    left = (left + (x + REACH)).clamp_(0, columns - len(weights_x))
    top = (top + (y + REACH)).clamp_(0, rows - len(weights_y))
    first = (top * columns + left).flatten(1)[:, None].expand(-1, channels, -1)
    values = padded.flatten(2)
    total = values.new_zeros(images.flatten(2).shape)
    for row, weight_y in enumerate(weights_y):
        for column, weight_x in enumerate(weights_x):
            value = values[:, :, row * columns + column :].gather(2, first)
            total.addcmul_(value, (weight_y * weight_x).flatten(1)[:, None])
    return _fill(total.view(images.shape), _is_outside(offset_x, x) | _is_outside(offset_y, y), fill)


def _pad(images: Tensor) -> Tensor:
    """Repeat the first and the last pixel of each line REACH times."""
    left, right = (images[..., end].expand(*images.shape[:3], REACH) for end in (slice(1), slice(-1, None)))
    return torch.cat([left, images, right], dim=3)


def _range(length: int, like: Tensor) -> Tensor:
    return torch.arange(length, device=like.device)


def _kernel(distance: Tensor, interpolation: str) -> tuple[Tensor, list[Tensor]]:
    """Return an interpolation kernel: its first pixel, int64 relative to the output pixel, and its weights, float32."""
    if interpolation == "nearest":
        return (distance + 0.5).floor().long(), [distance.new_ones(()).expand_as(distance)]
    first = distance.floor()
    d = distance - first
    if interpolation == "bilinear":
        return first.long(), [1 - d, d]
    square = d * d  # cubic convolution with a = -1 (Keys 1981), as in Pillow
    cube = square * d
    return first.long() - 1, [2 * square - d - cube, 1 - 2 * square + cube, d + square - cube, cube - square]


def _is_outside(distance: Tensor, pixel: Tensor) -> Tensor:
    """Return a bool tensor: the position that `pixel` is sampled from is outside [0, number of pixels)."""
    position = distance + (pixel + 0.5)
    return position.clamp(0, pixel.numel() * (1 - 2**-24)) != position  # the last float32 before the border


def _fill(total: Tensor, is_outside: Tensor, fill: Sequence[int]) -> Tensor:
    warped = to_byte(total.add_(ROUNDING))
    outside = is_outside.byte()
    warped.mul_((1 - outside)[:, None])
    for channel, value in enumerate(fill):
        warped[:, channel].add_(outside, alpha=value)
    return warped
