"""The image operations of AutoAugment's family, batched: uint8 [N,3,H,W] and one argument an image, [N], to uint8.

The arithmetic is Pillow's, with its rounding, so that published policies mean the same here.
"""

from __future__ import annotations

import math

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
    return _blend(0, images.float(), factor)


def contrast(images, factor):
    """0 is the image's mean grey, 1 the image."""
    total = gray(images).sum((1, 2, 3), keepdim=True)
    pixels = images.shape[2] * images.shape[3]
    return _blend((2 * total + pixels) // (2 * pixels), images.float(), factor)


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
    return _to_byte((images - degenerate).mul_(factor.view(-1, 1, 1, 1)).add_(degenerate))


def _to_byte(values):
    return values.clamp_(0, 255).short().byte()  # on a CPU faster than at once


def gray(images):
    """uint8 [N,3,H,W] -> luma, int32 [N,1,H,W] (ITU-R 601-2 in 16-bit fixed point)."""
    red, green, blue = images.int().split(1, dim=1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def color(images, factor):
    """0 is the grey image, 1 the image."""
    return _blend(gray(images).float(), images.float(), factor)


def sharpness(images, factor):
    """0 is the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13 inside a border of one pixel, 1 the image."""
    sharp = images.float()
    height, width = images.shape[2:]
    rows = sharp[:, :, :-2] + sharp[:, :, 1:-1] + sharp[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = sharp.clone()
    smooth[:, :, 1 : height - 1, 1 : width - 1].mul_(4).add_(box).div_(13).add_(0.5).floor_()
    return _blend(smooth, sharp, factor)


def blur(images, sigma, reach):
    """Gaussian of deviation `sigma`, float [N], in pixels, cut `reach` pixels away; beyond the border the outermost
    pixels repeat."""
    import torch

    place = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (place / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdim=True))[:, None, None, None].unbind(-1)  # [N,1,1,1] each
    values = images.float()
    for axis in (2, 3):
        side = values.shape[axis]
        shown = torch.arange(-reach, side + reach, device=images.device).clamp_(0, side - 1)
        padded = values.index_select(axis, shown)
        values = padded.narrow(axis, 0, side) * weights[0]
        for tap, weight in enumerate(weights[1:], 1):
            values.addcmul_(padded.narrow(axis, tap, side), weight)
    return _to_byte(values.add_(0.5))


# --- geometric operations ---------------------------------------------------------------------------------------
#
# Each output pixel comes from another place of its image; where that lies outside is `fill` (3 values). At the border
# the outermost pixels repeat.

CUT = 5e-4  # float32 sums that belong on a whole number may fall this far below it
REACH = 2  # pixels that a kernel reaches beyond an image


def slide_x(images, distance, interpolation, fill):
    """Pixel x of line y is what lies at x + distance[n,y]: float [N,H or 1], in pixels."""
    n, channels, height, width = images.shape
    first, weights = _kernel(distance, interpolation)
    # all lines one after the other; before the first and after the last a line's length that is never shown
    padded = width + 2 * REACH
    lines = images.new_empty(2 * width + n * channels * height * padded)
    lines[width:-width].view(n, channels, height, padded).copy_(_padded(images))
    length = width + len(weights) - 1
    runs = lines.as_strided((len(lines) - length + 1, length), (1, 1))
    starts = _range(n * channels * height, images).view(n, channels, height) * padded + width + REACH
    starts = starts + first.clamp_(-width - 1, width - 1)[:, None]
    run = runs.index_select(0, starts.flatten()).view(n, channels, height, length).float()
    weights = [weight[:, None, :, None] for weight in weights]
    total = run[..., :width] * weights[0]
    for tap, weight in enumerate(weights[1:], 1):
        total.addcmul_(run[..., tap : tap + width], weight)
    return _filled(total, _outside(distance[..., None], _range(width, images)), fill)


def slide_y(images, distance, interpolation, fill):
    """`slide_x` along the columns; distance [N,W or 1]."""
    return slide_x(images.transpose(2, 3), distance, interpolation, fill).transpose(2, 3)


def shear(slope, lines):
    """Pixels a line, float [N], from the upper left corner -> the distance that `slide_x` or `slide_y` takes."""
    return slope[:, None] * (_range(lines, slope) + 0.5)


def rotate(images, degrees, interpolation, fill):
    """Counter-clockwise about the centre, float [N]."""
    channels, height, width = images.shape[1:]
    x, y = _range(width, images), _range(height, images)[:, None]
    angle = degrees.view(-1, 1, 1) * (math.pi / 180)
    cos, sin = angle.cos() - 1, angle.sin()
    from_x, from_y = x + (0.5 - width / 2), y + (0.5 - height / 2)
    beside, below = cos * from_x - sin * from_y, cos * from_y + sin * from_x
    (left, across), (top, down) = _kernel(beside, interpolation), _kernel(below, interpolation)
    padded = _padded(_padded(images).transpose(2, 3)).transpose(2, 3).float()
    rows, columns = padded.shape[2:]
    left = (left + (x + REACH)).clamp_(0, columns - len(across))
    top = (top + (y + REACH)).clamp_(0, rows - len(down))
    first = (top * columns + left).flatten(1)[:, None].expand(-1, channels, -1)
    values = padded.flatten(2)
    total = values.new_zeros(images.flatten(2).shape)
    for row, weight_down in enumerate(down):
        for column, weight_across in enumerate(across):
            value = values[:, :, row * columns + column :].gather(2, first)
            total.addcmul_(value, (weight_down * weight_across).flatten(1)[:, None])
    return _filled(total.view(images.shape), _outside(beside, x) | _outside(below, y), fill)


def _padded(images):
    """Lines with their ends repeated REACH times."""
    import torch

    left, right = (images[..., end].expand(*images.shape[:3], REACH) for end in (slice(1), slice(-1, None)))
    return torch.cat([left, images, right], dim=3)


def _range(length, like):
    import torch

    return torch.arange(length, device=like.device)


def _kernel(distance, interpolation):
    """(first, weights): where it begins, int64, beside a pixel's own place, and its values, float32."""
    if interpolation == "nearest":
        return (distance + 0.5).floor().long(), [distance.new_ones(()).expand_as(distance)]
    first = distance.floor()
    d = distance - first
    if interpolation == "bilinear":
        return first.long(), [1 - d, d]
    square = d * d  # cubic convolution with a = -1 (Keys 1981), as Pillow's
    cube = square * d
    return first.long() - 1, [2 * square - d - cube, 1 - 2 * square + cube, d + square - cube, cube - square]


def _outside(distance, pixel):
    """bool: whether a pixel's place is outside [0, side)."""
    place = distance + (pixel + 0.5)
    return place.clamp(0, pixel.numel() * (1 - 2**-24)) != place  # the last float32 before the border


def _filled(total, outside, fill):
    warped = _to_byte(total.add_(CUT))
    outside = outside.byte()
    warped.mul_((1 - outside)[:, None])
    for channel, value in enumerate(fill):
        warped[:, channel].add_(outside, alpha=value)
    return warped
