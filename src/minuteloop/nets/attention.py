"""Self-attention over feature maps, and position embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minuteloop.nets.program import window_size


class Attention(nn.Module):
    """Multi-head self-attention on [N, C, H, W]: global (Dosovitskiy 2021) or within windows (Liu 2021).

    `window` is the window size in pixels, 0 = global. Where it does not divide the resolution, or exceeds it, the
    largest smaller size that divides it is used. Windows have a learned bias for each relative position of two
    pixels. `shifted` moves windows by half their size with wrap-around; pixels that only wrapping brings together do
    not attend to each other.
    """

    def __init__(self, channels: int, heads: int, window: int, shifted: bool, bias: bool):
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.qkv = nn.Linear(channels, 3 * channels, bias=bias)
        self.proj = nn.Linear(channels, channels, bias=bias)
        # relative position bias, one-dimensional, so that it has no weight decay
        self.places = nn.Parameter(torch.zeros((2 * window - 1) ** 2 * heads)) if window else None

    def forward(self, x: Tensor) -> Tensor:
        (n, c, height, width), x = x.shape, x.permute(0, 2, 3, 1)
        sizes = tuple(window_size(length, self.window) if self.window else length for length in (height, width))
        lengths = zip(sizes, (height, width), strict=True)
        shifts = [size // 2 if self.shifted and size < length else 0 for size, length in lengths]
        mask = self._position_bias(*sizes) if self.window else None  # [heads, P, P]
        if any(shifts):
            x = x.roll([-shift for shift in shifts], (1, 2))
            wrap_mask = _wrap_mask(height, width, *sizes, *shifts, x.device)  # [windows, P, P]
            mask = (mask + wrap_mask[:, None]).repeat(n, 1, 1, 1)
        x = _split_windows(x, *sizes)  # [N * windows, P, C]
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mask = mask if mask is None else mask.to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
        x = _merge_windows(self.proj(x), n, height, width, *sizes)
        if any(shifts):
            x = x.roll(shifts, (1, 2))
        return x.permute(0, 3, 1, 2)

    def _position_bias(self, height: int, width: int) -> Tensor:
        row, column = (torch.arange(size, device=self.places.device) for size in (height, width))
        down = (row[:, None] - row + self.window - 1)[:, None, :, None]
        across = (column[:, None] - column + self.window - 1)[None, :, None, :]
        position = (down * (2 * self.window - 1) + across).reshape(height * width, height * width)
        return self.places.view(-1, self.heads)[position].permute(2, 0, 1)


def _split_windows(x: Tensor, height: int, width: int) -> Tensor:
    """[N, H, W, C] -> windows [N * windows, height * width, C]"""
    n, rows, columns, c = x.shape
    x = x.reshape(n, rows // height, height, columns // width, width, c).transpose(2, 3)
    return x.reshape(-1, height * width, c)


def _merge_windows(x: Tensor, n: int, rows: int, columns: int, height: int, width: int) -> Tensor:
    """Windows [N * windows, height * width, C] -> [N, rows, columns, C]"""
    x = x.view(n, rows // height, columns // width, height, width, -1).transpose(2, 3)
    return x.reshape(n, rows, columns, -1)


def _wrap_mask(rows: int, columns: int, height: int, width: int, down: int, across: int, device) -> Tensor:
    """Return float [windows, P, P]: -inf between pixels that share a window only because the shift wraps."""
    wrapped_row = torch.arange(rows, device=device) >= rows - down
    wrapped_column = torch.arange(columns, device=device) >= columns - across
    region = wrapped_row[:, None] * 2 + wrapped_column[None]
    region = _split_windows(region[None, :, :, None], height, width)[:, :, 0]
    is_separate = region[:, :, None] != region[:, None]
    return torch.zeros(is_separate.shape, device=device).masked_fill_(is_separate, float("-inf"))


class Positions(nn.Module):
    """Learned position embedding, interpolated to other resolutions than its own (Dosovitskiy 2021)."""

    def __init__(self, channels: int, resolution: int):
        super().__init__()
        self.resolution = resolution
        # one-dimensional, so that it has no weight decay; std 0.02 (Dosovitskiy 2021, released code)
        self.values = nn.Parameter(0.02 * torch.randn(channels * resolution * resolution))

    def forward(self, x: Tensor) -> Tensor:
        positions = self.values.view(1, -1, self.resolution, self.resolution)
        if x.shape[2:] != positions.shape[2:]:
            positions = F.interpolate(positions, x.shape[2:], mode="bicubic", antialias=True, align_corners=False)
        return x + positions
