"""Tone operations of AutoAugment's family, batched: uint8 [N,3,H,W] and one argument per image, [N] -> uint8.

The arithmetic is Pillow's, with its rounding, so that published policies mean the same here.
"""

import torch
from torch import Tensor

# --- point operations: a table of 256 values per image and channel ----------------------------------------------


def look_up(images: Tensor, table: Tensor) -> Tensor:
    """Replace each value v by table[n, channel, v]; table: uint8 [N, 1 or 3, 256]."""
    n, channels = images.shape[:2]
    table = table.expand(n, channels, 256)
    return table.gather(2, images.flatten(2).long()).view_as(images)


def _values(images: Tensor, dtype: torch.dtype = torch.int32) -> Tensor:
    return torch.arange(256, device=images.device, dtype=dtype)


def invert(images: Tensor) -> Tensor:
    """Map v to 255 - v."""
    return 255 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the `bits` highest bits; 0 bits gives a black image (Pillow before 13; later versions raise)."""
    return images & (256 - 2 ** (8 - bits)).byte().view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert values >= `threshold`; 256 leaves the image unchanged."""
    value = _values(images)
    return look_up(images, torch.where(value < threshold.view(-1, 1, 1), value, 255 - value).byte())


def solarize_add(images: Tensor, added: Tensor) -> Tensor:
    """Add `added` to values below 128."""
    value = _values(images)
    return look_up(images, torch.where(value < 128, value + added.view(-1, 1, 1), value).clamp_(max=255).byte())


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black; factor 1 is the image."""
    return _blend(0, images.float(), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean gray; factor 1 is the image."""
    total = gray(images).sum((1, 2, 3), keepdim=True)
    pixels = images.shape[2] * images.shape[3]
    return _blend((2 * total + pixels) // (2 * pixels), images.float(), factor)


def auto_contrast(images: Tensor) -> Tensor:
    """Stretch each channel to [0, 255]; a channel with a single value stays."""
    value = _values(images, torch.float64)
    low, high = (limit.double()[..., None] for limit in (images.amin((2, 3)), images.amax((2, 3))))
    scale = torch.full_like(low, 255) / (high - low)  # 255 / tensor would multiply by a rounded reciprocal
    stretched = (value * scale + -low * scale).clamp_(0, 255)
    return look_up(images, torch.where(high > low, stretched, value).byte())


def equalize(images: Tensor) -> Tensor:
    """Flatten each channel's histogram; a channel with fewer than 255 pixels below its maximum stays."""
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


def _blend(degenerate: Tensor | int, images: Tensor, factor: Tensor) -> Tensor:
    """Interpolate from `degenerate` (factor 0) to `images` (1) and beyond, in Pillow's order, truncating."""
    return to_byte((images - degenerate).mul_(factor.view(-1, 1, 1, 1)).add_(degenerate))


def to_byte(values: Tensor) -> Tensor:
    """Clamp to [0, 255] in place and truncate to uint8."""
    return values.clamp_(0, 255).short().byte()  # on CPU faster than .byte() alone


def gray(images: Tensor) -> Tensor:
    """Return the luma, int32 [N,1,H,W] (ITU-R 601-2 in 16-bit fixed point)."""
    red, green, blue = images.int().split(1, dim=1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the gray image; factor 1 is the image."""
    return _blend(gray(images).float(), images.float(), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13 (not its outermost pixels); factor 1 is the image."""
    sharp = images.float()
    height, width = images.shape[2:]
    rows = sharp[:, :, :-2] + sharp[:, :, 1:-1] + sharp[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = sharp.clone()
    smooth[:, :, 1 : height - 1, 1 : width - 1].mul_(4).add_(box).div_(13).add_(0.5).floor_()
    return _blend(smooth, sharp, factor)


def blur(images: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Blur with a Gaussian of std `sigma`, float [N], in pixels, truncated at `reach` pixels; the border repeats."""
    offset = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdim=True))[:, None, None, None].unbind(-1)  # [N,1,1,1], one per offset
    values = images.float()
    for axis in (2, 3):
        length = values.shape[axis]
        source = torch.arange(-reach, length + reach, device=images.device).clamp_(0, length - 1)
        padded = values.index_select(axis, source)
        values = padded.narrow(axis, 0, length) * weights[0]
        for start, weight in enumerate(weights[1:], 1):
            values.addcmul_(padded.narrow(axis, start, length), weight)
    return to_byte(values.add_(0.5))
