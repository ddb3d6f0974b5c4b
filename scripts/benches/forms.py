"""Cost of depthwise convolution, layer norm and GELU in several implementations: forward and backward, by shape."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator

import torch
from benches.rounds import alternate, now, spread
from torch import Tensor
from torch.nn import functional as F

from minuteloop.nets.cpu_kernels import GELU, DepthwiseConv, LayerNorm
from minuteloop.schema import Config

CALLS = 5  # a round
SHAPES = [(24, 32), (24, 16), (48, 8), (96, 4), (192, 2), (96, 8), (192, 4)]  # channels, resolution
KERNELS = (3, 7)
COLUMNS = ("forward_ms", "backward_maps_ms", "backward_weights_ms")


def forms(config: Config, args: Namespace) -> Iterator[dict]:
    """Yield milliseconds a batch: forward, backward to the feature maps and to the weights, in the config's precision.

    `ours` is what nets run; on CUDA it is `plain`. `dense` is a pointwise convolution with the same multiply-adds: what
    the device could reach.
    """
    device, dtype = config.device, torch.bfloat16 if config.precision == "bf16" else torch.float32
    for channels, resolution in SHAPES:
        shape = (config.recipe.batch_size, channels, resolution, resolution)
        maps = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
        operations = [("depthwise", kernel, depthwise(channels, resolution, kernel)) for kernel in KERNELS]
        operations += [("layer norm", 1, layer_norms(channels)), ("GELU", 1, gelus())]
        for operation, kernel, implementations in operations:
            arms = {
                name: _timed(function, maps, *(weight.to(device) for weight in weights))
                for name, (function, *weights) in implementations.items()
            }
            for row in _rows(arms, args.rounds):
                yield {
                    "arm": row.pop("arm"),
                    "what": operation,
                    "channels": channels,
                    "side": resolution,
                    "kernel": kernel,
                    "precision": config.precision,
                    **row,
                }


def depthwise(channels: int, resolution: int, kernel: int) -> dict[str, tuple[Callable, Tensor]]:
    """Return name -> (function of feature maps [N,C,H,W] and a weight, the weight)."""
    weight = torch.randn(channels, 1, kernel, kernel) / kernel
    module = DepthwiseConv(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)

    def plain(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x, w, padding=kernel // 2, groups=channels)

    def ours(x: Tensor, w: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": w}, (x,))

    implementations = {"plain": (plain, weight), "ours": (ours, weight), "shifted adds": (_shifted_adds, weight)}
    if resolution <= 16:
        connections = _connections(kernel, resolution)
        implementations["matrix"] = (lambda x, w: _channel_matrices(x, w, connections), weight)
    dense_weight = torch.randn(kernel**2, channels, 1, 1)
    return implementations | {"unfold": (_unfolded, weight), "dense": (F.conv2d, dense_weight)}


def _shifted_adds(x: Tensor, w: Tensor) -> Tensor:
    """Add the padded input, shifted by each position of the kernel."""
    kernel, (height, width) = w.shape[-1], x.shape[2:]
    padded = F.pad(x, [kernel // 2] * 4)
    return sum(
        padded[:, :, row : row + height, column : column + width] * w[:, :, row, column, None, None].squeeze(1)
        for row in range(kernel)
        for column in range(kernel)
    )


def _unfolded(x: Tensor, w: Tensor) -> Tensor:
    """Multiply im2col columns [N,C,K*K,P] with the kernels."""
    kernel, pixels = w.shape[-1], x.shape[2] * x.shape[3]
    columns = F.unfold(x, kernel, padding=kernel // 2).view(len(x), x.shape[1], kernel**2, pixels)
    return torch.einsum("nckp,ck->ncp", columns, w.flatten(1)).view_as(x)


def _channel_matrices(x: Tensor, w: Tensor, connections: Tensor) -> Tensor:
    """Multiply the pixels of each channel with a matrix [P,P]."""
    n, channels, height, width = x.shape
    pixels = height * width
    matrices = (w.flatten(1) @ connections.to(w.device)).view(channels, pixels, pixels).to(x.dtype)
    y = torch.bmm(x.permute(1, 0, 2, 3).reshape(channels, n, pixels), matrices)
    return y.view(channels, n, height, width).permute(1, 0, 2, 3).contiguous(memory_format=torch.channels_last)


def _connections(kernel: int, resolution: int) -> Tensor:
    """Return 0/1 [K*K, P*P]: which kernel position connects an input pixel to an output pixel."""
    pixels = torch.arange(resolution**2)
    down, right = (
        place[:, None] - place + kernel // 2 for place in (pixels // resolution, pixels % resolution)
    )  # [P,P] each
    is_inside = (down >= 0) & (down < kernel) & (right >= 0) & (right < kernel)
    position = torch.where(is_inside, down * kernel + right, -1).flatten()
    return (position == torch.arange(kernel**2)[:, None]).float()


def layer_norms(channels: int) -> dict[str, tuple[Callable, Tensor]]:
    """Return name -> (function of feature maps [N,C,H,W] and a weight [C], the weight)."""
    module, weight = LayerNorm(channels, eps=1e-6), torch.ones(channels)

    def plain(x: Tensor, w: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), (channels,), w.to(x.dtype), eps=1e-6).permute(0, 3, 1, 2)

    def ours(x: Tensor, w: Tensor) -> Tensor:
        return torch.func.functional_call(module.to(x.device), {"weight": w}, (x,))

    def mean_and_square(x: Tensor, w: Tensor) -> Tensor:
        x = x.float()
        centred = x - x.mean(1, keepdim=True)
        return centred * (centred.square().mean(1, keepdim=True) + 1e-6).rsqrt() * w[:, None, None]

    return {"plain": (plain, weight), "ours": (ours, weight), "mean and square": (mean_and_square, weight)}


def gelus() -> dict[str, tuple[Callable]]:
    """Return name -> (function of feature maps,); `tanh` is an approximation."""

    def tanh(x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    return {"plain": (F.gelu,), "ours": (GELU(),), "tanh": (tanh,)}


def _timed(function: Callable, *inputs: Tensor) -> Callable[[], tuple[float, ...]]:
    """Return an arm: seconds of the forward pass and of the backward pass to each of `inputs` separately."""
    device, bf16 = inputs[0].device, inputs[0].dtype != torch.float32

    def measure(position: int) -> tuple[float, float]:
        """Return seconds of forward and backward, where only the input at `position` requires a gradient."""
        arguments = [tensor.detach().requires_grad_(i == position) for i, tensor in enumerate(inputs)]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            begin = now(device)
            for _ in range(CALLS):
                y = function(*arguments)
            forward = now(device) - begin
        grad_output, begin = torch.randn_like(y), now(device)
        for _ in range(CALLS):
            torch.autograd.grad(y, arguments[position], grad_output, retain_graph=True)
        return forward / CALLS, (now(device) - begin) / CALLS

    def arm() -> tuple[float, ...]:
        passes = [measure(position) for position in range(len(inputs))]
        return passes[0][0], *(backward for _, backward in passes)

    return arm


def _rows(arms: dict[str, Callable], rounds: int) -> Iterator[dict]:
    for name, seconds in alternate(arms, rounds).items():
        columns = [spread([1000 * value for value in values]) for values in zip(*seconds, strict=True)]
        yield {
            "arm": name,
            **dict(zip(COLUMNS, columns, strict=False)),  # GELU has no weights
            "all_ms": spread([1000 * sum(values) for values in seconds]),
        }
