"""What the forms of depthwise convolution, layer norm and GELU cost, shape by shape, forward and both ways back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from bench_rounds import alternate, now, spread
from torch import Tensor
from torch.nn import functional as F

from minuteloop.nets.cpu_kernels import GELU, DepthwiseConv, LayerNorm

CALLS = 5  # a round
SHAPES = [(24, 32), (24, 16), (48, 8), (96, 4), (192, 2), (96, 8), (192, 4)]  # channels, side
KERNELS = (3, 7)


def forms(config, args) -> Iterator[dict]:
    """Milliseconds a batch of forward, backward to the maps and backward to the weights, in the config's precision.

    `ours` is what nets run, on CUDA the plain ones.
    `dense` is a pointwise convolution of as many multiply-adds, which tells what the device could do.
    """
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    for channels, side in SHAPES:
        shape = (config.recipe.batch_size, channels, side, side)
        maps = torch.randn(shape, device=config.device).to(dtype).contiguous(memory_format=torch.channels_last)
        for kernel in KERNELS:
            arms = {
                name: _timed(form, maps, weight.to(config.device))
                for name, (form, weight) in _depthwise(channels, side, kernel).items()
            }
            yield from _rows("depthwise", arms, args.rounds, config.precision, channels, side, kernel)
        arms = {name: _timed(form, maps, torch.ones(channels, device=config.device)) for name, form in _norms(channels)}
        yield from _rows("layer norm", arms, args.rounds, config.precision, channels, side, 1)
        arms = {name: _timed(form, maps) for name, form in _gelus()}
        yield from _rows("GELU", arms, args.rounds, config.precision, channels, side, 1)


def _depthwise(channels: int, side: int, kernel: int) -> dict[str, tuple[Callable, Tensor]]:
    weight, pad = torch.randn(channels, 1, kernel, kernel) / kernel, kernel // 2
    module = DepthwiseConv(channels, channels, kernel, padding=pad, groups=channels, bias=False)
    taps = [(down, right) for down in range(kernel) for right in range(kernel)]

    def plain(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x, w, padding=pad, groups=channels)

    def ours(x: Tensor, w: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": w}, (x,))

    def shifted(x: Tensor, w: Tensor) -> Tensor:
        padded = F.pad(x, [pad] * 4)
        return sum(
            padded[:, :, down : down + side, right : right + side] * w[:, :, down, right, None, None].squeeze(1)
            for down, right in taps
        )

    def unfolded(x: Tensor, w: Tensor) -> Tensor:
        columns = F.unfold(x, kernel, padding=pad).view(len(x), channels, kernel**2, side**2)
        return torch.einsum("nckp,ck->ncp", columns, w.flatten(1)).view_as(x)

    def matrix(x: Tensor, w: Tensor) -> Tensor:
        """A [P, P] matrix a channel."""
        pixels = side**2
        between = (w.flatten(1) @ reached.to(w.device)).view(channels, pixels, pixels).to(x.dtype)
        y = torch.bmm(x.permute(1, 0, 2, 3).reshape(channels, len(x), pixels), between)
        return y.view(channels, len(x), side, side).permute(1, 0, 2, 3).contiguous(memory_format=torch.channels_last)

    def dense(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x, w)

    found = {"plain": (plain, weight), "ours": (ours, weight), "shifted adds": (shifted, weight)}
    if side <= 16:
        reached = _reached(kernel, side)
        found["matrix"] = (matrix, weight)
    found |= {"unfold": (unfolded, weight), "dense": (dense, torch.randn(kernel**2, channels, 1, 1))}
    return found


def _reached(kernel: int, side: int) -> Tensor:
    """0/1 [kernel * kernel, P * P]: which tap leads from a pixel that is read to one that is written."""
    row, column = torch.arange(side**2) // side, torch.arange(side**2) % side
    down, right = (place[:, None] - place + kernel // 2 for place in (row, column))
    within = (down >= 0) & (down < kernel) & (right >= 0) & (right < kernel)
    tap = torch.where(within, down * kernel + right, -1).flatten()
    return (tap == torch.arange(kernel**2)[:, None]).float()


def _norms(channels: int) -> Iterator[tuple[str, Callable]]:
    module = LayerNorm(channels, eps=1e-6)

    def plain(x: Tensor, w: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), (channels,), w.to(x.dtype), eps=1e-6).permute(0, 3, 1, 2)

    def ours(x: Tensor, w: Tensor) -> Tensor:
        return torch.func.functional_call(module.to(x.device), {"weight": w}, (x,))

    def by_hand(x: Tensor, w: Tensor) -> Tensor:
        x = x.float()
        centred = x - x.mean(1, keepdim=True)
        return centred * (centred.square().mean(1, keepdim=True) + 1e-6).rsqrt() * w[:, None, None]

    yield from {"plain": plain, "ours": ours, "mean and square": by_hand}.items()


def _gelus() -> Iterator[tuple[str, Callable]]:
    module = GELU()

    def tanh(x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    yield from {"plain": F.gelu, "ours": module, "tanh": tanh}.items()


def _timed(form: Callable, *inputs: Tensor) -> Callable[[], tuple[float, ...]]:
    """Seconds of forward and of backward to each of `inputs`, maps and perhaps a weight, in turn."""

    def arm() -> tuple[float, ...]:
        seconds = []
        for wanted in range(len(inputs)):  # only one of them has a gradient
            given = [tensor.detach().requires_grad_(n == wanted) for n, tensor in enumerate(inputs)]
            device, precise = given[0].device, given[0].dtype == torch.float32
            with torch.autocast(device.type, torch.bfloat16, enabled=not precise):
                begin = now(device)
                for _ in range(CALLS):
                    y = form(*given)
                forward = now(device) - begin
            towards, begin = torch.randn_like(y), now(device)
            for _ in range(CALLS):
                torch.autograd.grad(y, given[wanted], towards, retain_graph=True)
            seconds += [now(device) - begin] if seconds else [forward, now(device) - begin]
        return tuple(value / CALLS for value in seconds)

    return arm


def _rows(what: str, arms: dict, rounds: int, precision: str, channels: int, side: int, kernel: int) -> Iterator[dict]:
    for name, found in alternate(arms, rounds).items():
        columns = [spread([1000 * value for value in values]) for values in zip(*found, strict=True)]
        yield {
            "arm": name,
            "what": what,
            "channels": channels,
            "side": side,
            "kernel": kernel,
            "precision": precision,
            **dict(zip(("forward_ms", "backward_maps_ms", "backward_weights_ms"), columns, strict=False)),
            "all_ms": spread([1000 * sum(values) for values in found]),
        }
