"""The module of each operation of a program. Feature maps are [N, C, H, W], in memory channels_last if the net is."""

import math

import torch
from torch import Tensor, nn

from minuteloop.nets.attention import Attention
from minuteloop.nets.cpu_kernels import GELU, DepthwiseConv, LayerNorm, PatchConv
from minuteloop.nets.program import Op, Program


def _conv(op: Op) -> nn.Conv2d:
    shape = (op.c_in, op.c_out, op.kernel, op.stride, op.padding)
    if op.weight == "std":
        return _timm_layer("StdConv2d")(*shape, groups=op.groups, bias=op.bias)
    if op.weight == "scaled":  # eps: Brock 2021, released code
        return _timm_layer("ScaledStdConv2d")(*shape, groups=op.groups, bias=op.bias, gamma=op.factor, eps=1e-5)
    cls, min_channels = nn.Conv2d, 8 if op.kernel > 1 else 96  # below, oneDNN's convolution is faster
    if op.groups == op.c_in == op.c_out > 1:
        cls = DepthwiseConv
    elif op.kernel == op.stride and op.groups == 1 and min(op.c_in, op.c_out) >= min_channels:
        cls = PatchConv
    return cls(*shape, groups=op.groups, bias=op.bias)


def _timm_layer(name: str) -> type[nn.Module]:
    """Import a layer of timm where it is used, since that takes a second."""
    import timm.layers.grn

    return getattr(timm.layers, name, None) or getattr(timm.layers.grn, name)


def _squeeze_excite(op: Op) -> nn.Module:
    act = nn.SiLU if op.act == "silu" else nn.ReLU
    return _timm_layer("SEModule")(op.c_in, rd_channels=op.hidden, act_layer=act)


def _attention(op: Op) -> nn.Module:
    return Attention(op.c_in, op.groups, op.window, op.kind == "sattn", op.bias)


def _norm_groups(op: Op) -> int:
    return math.gcd(32, op.c_in)  # 32: Wu 2018, sec. 3.1


# Op.kind -> module
MODULES = {
    "conv": _conv,
    "whiten": lambda op: Whitening(op.c_in, op.c_out, op.kernel, op.stride, op.padding),
    "attn": _attention,
    "wattn": _attention,
    "sattn": _attention,
    "se": _squeeze_excite,
    "eca": lambda op: _timm_layer("EcaModule")(op.c_in),
    "ceca": lambda op: _timm_layer("CecaModule")(op.c_in),
    "grn": lambda op: _timm_layer("GlobalResponseNorm")(op.c_in, channels_last=False),
    "maxpool": lambda op: nn.MaxPool2d(op.kernel, op.stride, op.padding),
    "avgpool": lambda op: nn.AvgPool2d(op.kernel, op.stride, op.padding, ceil_mode=True, count_include_pad=False),
    "blur": lambda op: Blur(op.stride),
    "unshuffle": lambda op: nn.PixelUnshuffle(op.kernel),
    "times": lambda op: Scale(op.factor),
    "bn": lambda op: nn.BatchNorm2d(op.c_out),
    "ln": lambda op: LayerNorm(op.c_out, eps=1e-6),  # eps: Liu 2022, released code
    "gn": lambda op: nn.GroupNorm(_norm_groups(op), op.c_out),
    "evob": lambda op: _timm_layer("EvoNorm2dB0")(op.c_out),
    "evos": lambda op: _timm_layer("EvoNorm2dS0")(op.c_out, groups=_norm_groups(op)),
    "evolinb": lambda op: _timm_layer("EvoNorm2dB0")(op.c_out, apply_act=False),
    "evolins": lambda op: _timm_layer("EvoNorm2dS0")(op.c_out, groups=_norm_groups(op), apply_act=False),
    "relu": lambda op: nn.ReLU(inplace=True),
    "relu6": lambda op: nn.ReLU6(inplace=True),
    "silu": lambda op: nn.SiLU(inplace=True),
    "leaky": lambda op: nn.LeakyReLU(1e-3, inplace=True),  # slope: Ridnik 2021, sec. 2.3
    "gelu": lambda op: GELU(),
}


def build(program: Program, keeps_input: bool = False) -> nn.Sequential:
    """Build the module that executes a program; an empty program is the identity.

    `keeps_input`: the input is used elsewhere too, so the first operation must not overwrite it.
    """
    modules = [MODULES[op.kind](op) for op in program]
    if keeps_input and hasattr(modules[0] if modules else None, "inplace"):
        modules[0].inplace = False
    return nn.Sequential(*modules)


class Scale(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Blur(nn.Module):
    """Strided depthwise filter [1 2 1; 2 4 2; 1 2 1] / 16 with reflect padding (Zhang 2019, sec. 3)."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filter", line[:, None] * line, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mode = "reflect" if min(x.shape[2:]) > 1 else "replicate"  # a single pixel cannot be reflected
        x = nn.functional.pad(x, [1] * 4, mode=mode)
        return nn.functional.conv2d(
            x, self.filter.expand(x.shape[1], 1, 3, 3).to(x.dtype), None, self.stride, groups=x.shape[1]
        )


class Whitening(nn.Conv2d):
    """Convolution whose filters whiten image patches (Page 2019; Jordan 2024, sec. 3.2).

    Half of the output channels are the eigenvectors of the patch covariance, divided by the square root of their
    eigenvalues, largest first; the other half are their negatives. They are frozen; the bias is learned.
    """

    EPS = 5e-4  # added to the eigenvalues (Jordan 2024, released code)

    def __init__(self, *args: int):
        super().__init__(*args)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def init_from(self, images: Tensor) -> None:
        """Compute the filters from normalized images [N, C, H, W]."""
        k, half = self.kernel_size[0], self.out_channels // 2
        patches = images.float().unfold(2, k, 1).unfold(3, k, 1)  # [N, C, H-k+1, W-k+1, k, k]
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)  # [patches, C*k*k]
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        filters = (vectors / (values + self.EPS).sqrt()).flip(1)[:, :half].T.view(half, -1, k, k)
        self.weight.copy_(torch.cat([filters, -filters]))


class LayerScale(nn.Module):
    """x * gamma with one learned gamma per channel (Touvron 2021b, sec. 2)."""

    def __init__(self, channels: int, initial: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(-1, 1, 1)


class DropPath(nn.Module):
    """Drop a branch per sample with probability `rate`; scale the others by 1 / (1 - rate) (Huang 2016, sec. 3).

    The rate is a tensor, so that it can change without recompiling. At rate 0 no random number is drawn.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("rate", torch.zeros(()), persistent=False)
        self.on = False

    def set(self, rate: float) -> None:
        """Set the rate, in [0, 1). Raises ValueError."""
        if not 0 <= rate < 1:
            raise ValueError(f"drop path rate={rate}: must be in [0, 1)")
        self.on = rate > 0
        self.rate.fill_(rate)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.on):
            return x
        keep = 1 - self.rate
        kept = torch.rand(len(x), *(1,) * (x.ndim - 1), device=x.device) < keep
        return x * (kept / keep).to(x.dtype)
