"""The operations of a program as modules. Maps are [N, C, H, W], channels_last in memory where the net is."""

import functools
import math

import torch
from torch import Tensor, nn

from minuteloop.nets.attention import Attention
from minuteloop.nets.program import Op, Program


def _conv(op: Op) -> nn.Conv2d:
    shape = (op.c_in, op.c_out, op.kernel, op.stride, op.padding)
    if op.weight == "std":
        return _timm("StdConv2d")(*shape, groups=op.groups, bias=op.bias)
    if op.weight == "scaled":  # eps: Brock 2021, released code
        return _timm("ScaledStdConv2d")(*shape, groups=op.groups, bias=op.bias, gamma=op.factor, eps=1e-5)
    cls, wide = nn.Conv2d, 8 if op.kernel > 1 else 96  # channels; of fewer oneDNN's convolution is faster
    if op.groups == op.c_in == op.c_out > 1:
        cls = DepthwiseConv
    elif op.kernel == op.stride and op.groups == 1 and min(op.c_in, op.c_out) >= wide:
        cls = PatchConv
    return cls(*shape, groups=op.groups, bias=op.bias)


def _timm(name: str):
    """A layer of timm, which takes a second to import."""
    import timm.layers.grn

    return getattr(timm.layers, name, None) or getattr(timm.layers.grn, name)


def _se(op: Op) -> nn.Module:
    act = nn.SiLU if op.act == "silu" else nn.ReLU
    return _timm("SEModule")(op.c_in, rd_channels=op.hidden, act_layer=act)


def _attention(op: Op) -> nn.Module:
    return Attention(op.c_in, op.groups, op.window, op.kind == "sattn", op.bias)


def _groups(op: Op) -> int:
    return math.gcd(32, op.c_in)  # 32: Wu 2018, sec. 3.1


# Op.kind -> module
MODULES = {
    "conv": _conv,
    "whiten": lambda op: Whitening(op.c_in, op.c_out, op.kernel, op.stride, op.padding),
    "attn": _attention,
    "wattn": _attention,
    "sattn": _attention,
    "se": _se,
    "eca": lambda op: _timm("EcaModule")(op.c_in),
    "ceca": lambda op: _timm("CecaModule")(op.c_in),
    "grn": lambda op: _timm("GlobalResponseNorm")(op.c_in, channels_last=False),
    "maxpool": lambda op: nn.MaxPool2d(op.kernel, op.stride, op.padding),
    "avgpool": lambda op: nn.AvgPool2d(op.kernel, op.stride, op.padding, ceil_mode=True, count_include_pad=False),
    "blur": lambda op: Blur(op.stride),
    "unshuffle": lambda op: nn.PixelUnshuffle(op.kernel),
    "times": lambda op: Times(op.factor),
    "bn": lambda op: nn.BatchNorm2d(op.c_out),
    "ln": lambda op: LayerNorm(op.c_out, eps=1e-6),  # eps: Liu 2022, released code
    "gn": lambda op: nn.GroupNorm(_groups(op), op.c_out),
    "evob": lambda op: _timm("EvoNorm2dB0")(op.c_out),
    "evos": lambda op: _timm("EvoNorm2dS0")(op.c_out, groups=_groups(op)),
    "evolinb": lambda op: _timm("EvoNorm2dB0")(op.c_out, apply_act=False),
    "evolins": lambda op: _timm("EvoNorm2dS0")(op.c_out, groups=_groups(op), apply_act=False),
    "relu": lambda op: nn.ReLU(inplace=True),
    "relu6": lambda op: nn.ReLU6(inplace=True),
    "silu": lambda op: nn.SiLU(inplace=True),
    "leaky": lambda op: nn.LeakyReLU(1e-3, inplace=True),  # slope: Ridnik 2021, sec. 2.3
    "gelu": lambda op: GELU(),
}


def build(program: Program, keeps_input: bool = False) -> nn.Sequential:
    """The module that executes a program; an empty one is the identity. `keeps_input`: it is read elsewhere too."""
    modules = [MODULES[op.kind](op) for op in program]
    if keeps_input and hasattr(modules[0] if modules else None, "inplace"):
        modules[0].inplace = False
    return nn.Sequential(*modules)


class Times(nn.Module):
    """The maps times a number."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Blur(nn.Module):
    """Depthwise [1 2 1; 2 4 2; 1 2 1] / 16 with a stride, the border mirrored (Zhang 2019, sec. 3)."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filter", line[:, None] * line, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mode = "reflect" if min(x.shape[2:]) > 1 else "replicate"  # a single pixel has no mirror image
        x = nn.functional.pad(x, [1] * 4, mode=mode)
        return nn.functional.conv2d(
            x, self.filter.expand(x.shape[1], 1, 3, 3).to(x.dtype), None, self.stride, groups=x.shape[1]
        )


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel, in float32 under autocast too.

    CUDA's autocast does so by itself; on CPUs the kernel for bf16 maps is up to 5 times slower than that for float32.
    Of channels that are no multiple of 16 torch's gradients take up to 10 times as long as of others: a ConvNeXt step
    24 channels wide takes 7 % less without.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).float()  # [N, H, W, C], a view in channels_last
        if x.device.type == "cpu" and x.shape[-1] % 16:
            return _NormOfRows.apply(x, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
        return nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class _NormOfRows(torch.autograd.Function):
    """Layer norm over the last dimension; its weight's gradient is a difference of two products with matrices."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, mean, scale = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        ctx.save_for_backward(x, mean, scale, weight, bias)
        return y

    @staticmethod
    def backward(ctx, given: Tensor) -> tuple[Tensor | None, ...]:
        (x, mean, scale, weight, bias), (to_x, to_weight, to_bias, _) = ctx.saved_tensors, ctx.needs_input_grad
        maps = gains = None
        if to_x:
            how = (weight.shape, mean, scale, weight, bias, [True, False, False])
            maps = torch.ops.aten.native_layer_norm_backward(given, x, *how)[0]
        given, x, mean, scale = (each.reshape(-1, each.shape[-1]) for each in (given, x, mean, scale))  # rows
        if to_weight:
            gains = ((given * x).T @ scale - given.T @ (mean * scale)).squeeze(1)
        return maps, gains, given.sum(0) if to_bias else None, None


class GELU(nn.GELU):
    """GELU; on CPUs as a function of the maps' memory [N, H, W, C].

    torch hands only what is contiguous to oneDNN, which takes two thirds of the time of torch's own kernel on large
    maps (recipes/forms.md); a fast-lane step takes 4 % less, a ConvNeXt step 2 to 8 %.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.is_contiguous():
            return super().forward(x)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchConv(nn.Conv2d):
    """Convolution of patches that do not overlap, 1x1 too; on CPUs a linear layer over them.

    oneDNN's backward of the convolution takes up to 4 times the linear layer's on small maps; a ConvNeXt step takes
    a tenth less.
    """

    def forward(self, x: Tensor) -> Tensor:
        (n, c, height, width), k = x.shape, self.kernel_size[0]
        if x.device.type != "cpu" or height % k or width % k:
            return super().forward(x)
        x = _autocast(x).permute(0, 2, 3, 1)
        if k > 1:
            x = x.reshape(n, height // k, k, width // k, k, c).transpose(2, 3)  # [N, H/k, W/k, k, k, C]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return nn.functional.linear(x.flatten(3), weight, self.bias).permute(0, 3, 1, 2)


class Whitening(nn.Conv2d):
    """Convolution whose filters whiten the patches they read (Page 2019; Jordan 2024, sec. 3.2).

    The filters are eigenvectors of the patches' covariance over the root of their eigenvalues, the largest first, then
    the same negated: half of the output channels each. They are frozen; the bias is learned.
    """

    EPS = 5e-4  # on the eigenvalues (Jordan 2024, released code)

    def __init__(self, *args: int):
        super().__init__(*args)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def init_from(self, images: Tensor) -> None:
        """Sets the filters from images [N, C, H, W], normalised."""
        k, half = self.kernel_size[0], self.out_channels // 2
        patches = images.float().unfold(2, k, 1).unfold(3, k, 1)  # [N, C, H-k+1, W-k+1, k, k]
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)  # [patches, C*k*k]
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        filters = (vectors / (values + self.EPS).sqrt()).flip(1)[:, :half].T.view(half, -1, k, k)
        self.weight.copy_(torch.cat([filters, -filters]))


class DepthwiseConv(nn.Conv2d):
    """Depthwise convolution; on CPUs the gradient of large kernels' weights comes from one product a channel.

    oneDNN's takes 12 to 45 times its forward with a 7x7 kernel (recipes/forms.md). Of maps of P <= 256 pixels the
    product of all pairs of a pixel read and one written, [P, P], is 2 times (16x16) to 11 times (4x4) faster. On 2x2
    maps a 3x3 kernel is as slow.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel, pixels = self.kernel_size[0], x.shape[2] * x.shape[3]
        keeps_map = kernel % 2 == 1 and self.stride == (1, 1)
        is_slow = (kernel >= 5 and pixels <= 256) or pixels <= 4
        if x.device.type != "cpu" or not (is_slow and keeps_map):
            return super().forward(x)
        return _ByPairs.apply(*map(_autocast, (x, self.weight, self.bias)))


def _autocast(x: Tensor | None) -> Tensor | None:
    """As CPU autocast, where it is on, gives a convolution its inputs."""
    return x if x is None or not torch.is_autocast_enabled("cpu") else x.to(torch.get_autocast_dtype("cpu"))


class _ByPairs(torch.autograd.Function):
    """Depthwise convolution, stride 1, padded to keep its map, of maps [N, C, H, W] and a weight [C, 1, k, k]."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return nn.functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx, given: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (to_maps, to_weight, to_bias) = ctx.saved_tensors, ctx.needs_input_grad
        c, _, kernel, _ = weight.shape
        maps = taps = None
        if to_maps:
            how = (None, [1, 1], [kernel // 2] * 2, [1, 1], False, [0, 0], c, [True, False, False])
            maps = torch.ops.aten.convolution_backward(given, x, weight, *how)[0]
        if to_weight:
            read, written = (each.permute(1, 0, 2, 3).flatten(2) for each in (x, given))  # [C, N, P]
            pairs = torch.bmm(read.mT, written).flatten(1)  # [C, P * P]
            taps = (pairs @ _spread(kernel, *x.shape[2:], pairs.dtype)).view(weight.shape)
        return maps, taps, given.sum((0, 2, 3)) if to_bias else None


@functools.cache
def _spread(kernel: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """0/1 [P * P, kernel * kernel]: which tap of a kernel, padded to keep the map, leads from pixel to pixel."""
    with torch.inference_mode(False):  # the first caller may be an evaluation
        row, column = torch.arange(height * width) // width, torch.arange(height * width) % width
        down = row[:, None] - row + kernel // 2
        right = column[:, None] - column + kernel // 2
        reached = (down >= 0) & (down < kernel) & (right >= 0) & (right < kernel)
        tap = torch.where(reached, down * kernel + right, -1).flatten()
        return (tap[:, None] == torch.arange(kernel * kernel)).to(dtype)


class LayerScale(nn.Module):
    """x * gamma, one learned gamma a channel (Touvron 2021b, sec. 2)."""

    def __init__(self, channels: int, initial: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(-1, 1, 1)


class DropPath(nn.Module):
    """Drops a whole branch by sample with probability `rate`, scales the others by 1 / (1 - rate) (Huang 2016, sec. 3).

    The rate is a tensor, so it can change without recompiling; at 0 nothing is drawn.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("rate", torch.zeros(()), persistent=False)
        self.on = False

    def set(self, rate: float) -> None:
        """`rate` in [0, 1). Raises ValueError."""
        if not 0 <= rate < 1:
            raise ValueError(f"a drop path rate of {rate} is not in [0, 1)")
        self.on = rate > 0
        self.rate.fill_(rate)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.on):
            return x
        keep = 1 - self.rate
        kept = torch.rand(len(x), *(1,) * (x.ndim - 1), device=x.device) < keep
        return x * (kept / keep).to(x.dtype)
