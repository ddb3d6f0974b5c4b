"""Random boxes within images, as masks of their rows and columns: float or bool [n,length]."""

import math

import torch
from torch import Tensor

ATTEMPTS = 10  # boxes drawn per image; the first that fits is used, as in timm


def span_around(center: Tensor, fraction: Tensor, length: int) -> Tensor:
    """Return 1.0 for the pixels of a span of fraction * length pixels around center * length, else 0.0.

    center, fraction: float [n], in [0, 1]. The span is clipped at the border.
    """
    half = (fraction * length).int() // 2
    middle = (center * length).int()
    pixel = torch.arange(length, device=fraction.device)
    return ((pixel >= (middle - half)[:, None]) & (pixel < (middle + half)[:, None])).float()


def outside_random_span(n: int, span: int, length: int, device: torch.device) -> Tensor:
    """Return a mask, bool [n,length], without `span` consecutive pixels at a uniformly drawn position."""
    start = torch.randint(max(length - span, 0) + 1, (n, 1), device=device)
    pixel = torch.arange(length, device=device)
    return (pixel < start) | (pixel >= start + span)


def index_in_random_span(span: Tensor, length: int) -> Tensor:
    """Return the index of each pixel within a span at a uniformly drawn position; -1 outside it.

    span: float [n,1], in pixels.
    """
    start = (torch.rand_like(span) * (length - span + 1)).floor()
    pixel = torch.arange(length, device=span.device) - start
    return torch.where(pixel < span, pixel, -1.0).clamp_(min=-1)


def draw_box_sizes(
    n: int, height: int, width: int, area_range: tuple[float, float], min_aspect: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw the heights and widths of `n` boxes in images of height x width, float [n,1], in pixels.

    Areas are uniform in `area_range` (fractions of the image), log aspect ratios between those of `min_aspect` and
    1 / min_aspect. The height is 0 where none of 10 boxes fits.
    """
    area = torch.empty(n, ATTEMPTS, device=device).uniform_(*area_range)
    area = area * height * width
    limit = -math.log(min_aspect)
    aspect = torch.empty_like(area).uniform_(-limit, limit).exp()
    heights = (area * aspect).sqrt().round()
    widths = (area / aspect).sqrt().round()
    fits = (heights < height) & (widths < width)
    first = fits.int().argmax(1, keepdim=True)
    heights, widths, fits = (values.gather(1, first) for values in (heights, widths, fits))
    return heights * fits, widths
