"""Attention among the pixels of a map, and learned positions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention on [N,C,H,W], among all pixels (Dosovitskiy 2021) or within windows (Liu 2021).

    `window` is the side of a window in pixels, 0 = the whole map; where it does not divide a map's side, or is larger,
    the largest side below it that does is taken. Windows have a learned bias for each relative place of two pixels.
    `shifted` windows begin half a window later and wrap around, where no pixel sees one from the other side.
    """

    def __init__(self, channels: int, heads: int, window: int, shifted: bool, bias: bool):
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.qkv = nn.Linear(channels, 3 * channels, bias=bias)
        self.proj = nn.Linear(channels, channels, bias=bias)
        # of 1 dimension, so that it does not decay
        self.places = nn.Parameter(torch.zeros((2 * window - 1) ** 2 * heads)) if window else None

    def forward(self, x: Tensor) -> Tensor:
        (n, c, height, width), x = x.shape, x.permute(0, 2, 3, 1)
        sides = tuple(_divisor(side, self.window) if self.window else side for side in (height, width))
        whole = zip(sides, (height, width), strict=True)
        shifts = [side // 2 if self.shifted and side < length else 0 for side, length in whole]
        mask = self._bias(*sides) if self.window else None  # [heads, P, P]
        if any(shifts):
            x = x.roll([-shift for shift in shifts], (1, 2))
            apart = _apart(height, width, *sides, *shifts, x.device)  # [windows, P, P]
            mask = (mask + apart[:, None]).repeat(n, 1, 1, 1)
        x = _split(x, *sides)  # [N * windows, P, C]
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mask = mask if mask is None else mask.to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
        x = _join(self.proj(x), n, height, width, *sides)
        if any(shifts):
            x = x.roll(shifts, (1, 2))
        return x.permute(0, 3, 1, 2)

    def _bias(self, height: int, width: int) -> Tensor:
        row, column = (torch.arange(side, device=self.places.device) for side in (height, width))
        down = (row[:, None] - row + self.window - 1)[:, None, :, None]
        across = (column[:, None] - column + self.window - 1)[None, :, None, :]
        place = (down * (2 * self.window - 1) + across).reshape(height * width, height * width)
        return self.places.view(-1, self.heads)[place].permute(2, 0, 1)


def _divisor(side: int, most: int) -> int:
    return max(n for n in range(1, most + 1) if side % n == 0)


def _split(x: Tensor, height: int, width: int) -> Tensor:
    """[N,H,W,C] -> windows [N * windows, height * width, C]"""
    n, rows, columns, c = x.shape
    x = x.reshape(n, rows // height, height, columns // width, width, c).transpose(2, 3)
    return x.reshape(-1, height * width, c)


def _join(x: Tensor, n: int, rows: int, columns: int, height: int, width: int) -> Tensor:
    """The opposite of _split."""
    x = x.view(n, rows // height, columns // width, height, width, -1).transpose(2, 3)
    return x.reshape(n, rows, columns, -1)


def _apart(rows: int, columns: int, height: int, width: int, down: int, across: int, device) -> Tensor:
    """float [windows, P, P]: -inf between pixels of one window that the shift has brought together."""
    wrapped_row = torch.arange(rows, device=device) >= rows - down
    wrapped_column = torch.arange(columns, device=device) >= columns - across
    region = wrapped_row[:, None] * 2 + wrapped_column[None]
    region = _split(region[None, :, :, None], height, width)[:, :, 0]
    other = region[:, :, None] != region[:, None]
    return torch.zeros(other.shape, device=device).masked_fill_(other, float("-inf"))


class Positions(nn.Module):
    """Adds a learned map, resized where the grid is another than it was made for (Dosovitskiy 2021)."""

    def __init__(self, channels: int, grid: int):
        super().__init__()
        self.grid = grid
        # of 1 dimension, so that it does not decay; deviation 0.02 (Dosovitskiy 2021, released code)
        self.values = nn.Parameter(0.02 * torch.randn(channels * grid * grid))

    def forward(self, x: Tensor) -> Tensor:
        positions = self.values.view(1, -1, self.grid, self.grid)
        if x.shape[2:] != positions.shape[2:]:
            positions = F.interpolate(positions, x.shape[2:], mode="bicubic", antialias=True, align_corners=False)
        return x + positions
