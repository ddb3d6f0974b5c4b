"""Layer norm, GELU, patch and depthwise convolution with faster CPU kernels than torch's.

On other devices each module runs torch's own operation. Feature maps are [N, C, H, W], channels_last in memory;
recipes/forms.md has the measurements.
"""

import functools

import torch
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel, in float32 under autocast too.

    CUDA's autocast does that by itself; on CPUs the bf16 kernel is up to 5 times slower than the float32 one. With
    channels that are no multiple of 16, torch's gradients take up to 10 times as long: a ConvNeXt step 24 channels
    wide takes 7 % less without them.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).float()  # [N, H, W, C], a view in channels_last
        if x.device.type == "cpu" and x.shape[-1] % 16:
            return _RowLayerNorm.apply(x, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
        return nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class _RowLayerNorm(torch.autograd.Function):
    """Layer norm over the last dimension; grad_weight is a difference of two matrix products."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, mean, rstd = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        return y

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, weight, bias = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_x = grad_weight = None
        if needs_x:
            grad_x = torch.ops.aten.native_layer_norm_backward(
                grad_output, x, weight.shape, mean, rstd, weight, bias, [True, False, False]
            )[0]
        grad_output, x, mean, rstd = (t.reshape(-1, t.shape[-1]) for t in (grad_output, x, mean, rstd))  # rows
        if needs_weight:
            grad_weight = ((grad_output * x).T @ rstd - grad_output.T @ (mean * rstd)).squeeze(1)
        return grad_x, grad_weight, grad_output.sum(0) if needs_bias else None, None


class GELU(nn.GELU):
    """GELU; on CPUs computed on the memory layout [N, H, W, C].

    torch passes only contiguous tensors to oneDNN, which takes two thirds of the time of torch's own kernel on large
    feature maps; a fast-lane step takes 4 % less, a ConvNeXt step 2 to 8 %.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.is_contiguous():
            return super().forward(x)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchConv(nn.Conv2d):
    """Convolution of non-overlapping patches, 1x1 included; on CPUs a linear layer over them.

    On small feature maps the backward pass of oneDNN's convolution takes up to 4 times that of the linear layer; a
    ConvNeXt step takes a tenth less.
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


class DepthwiseConv(nn.Conv2d):
    """Depthwise convolution; on CPUs grad_weight of large kernels is one matrix product per channel.

    With a 7x7 kernel oneDNN's grad_weight takes 12 to 45 times its forward pass. On feature maps of P <= 256 pixels
    the product over all pairs of an input and an output pixel, [P, P], is 2 times (16x16) to 11 times (4x4) faster.
    On 2x2 feature maps a 3x3 kernel is as slow as the large ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel, pixels = self.kernel_size[0], x.shape[2] * x.shape[3]
        keeps_resolution = kernel % 2 == 1 and self.stride == (1, 1)
        is_slow = (kernel >= 5 and pixels <= 256) or pixels <= 4
        if x.device.type != "cpu" or not (is_slow and keeps_resolution):
            return super().forward(x)
        return _PairwiseDepthwise.apply(*map(_autocast, (x, self.weight, self.bias)))


def _autocast(x: Tensor | None) -> Tensor | None:
    """Cast as CPU autocast, where it is on, casts the inputs of a convolution."""
    return x if x is None or not torch.is_autocast_enabled("cpu") else x.to(torch.get_autocast_dtype("cpu"))


class _PairwiseDepthwise(torch.autograd.Function):
    """Depthwise convolution of [N, C, H, W] by a weight [C, 1, k, k], stride 1, padded to keep the resolution."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return nn.functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        c, _, kernel, _ = weight.shape
        grad_x = grad_weight = None
        if needs_x:
            args = (None, [1, 1], [kernel // 2] * 2, [1, 1], False, [0, 0], c, [True, False, False])
            grad_x = torch.ops.aten.convolution_backward(grad_output, x, weight, *args)[0]
        if needs_weight:
            inputs, outputs = (t.permute(1, 0, 2, 3).flatten(2) for t in (x, grad_output))  # [C, N, P]
            pairs = torch.bmm(inputs.mT, outputs).flatten(1)  # [C, P * P]
            grad_weight = (pairs @ _kernel_positions(kernel, *x.shape[2:], pairs.dtype)).view(weight.shape)
        return grad_x, grad_weight, grad_output.sum((0, 2, 3)) if needs_bias else None


@functools.cache
def _kernel_positions(kernel: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return 0/1 [P * P, kernel * kernel]: the kernel position that connects an input pixel to an output pixel."""
    with torch.inference_mode(False):  # the first call may come from an evaluation; the cached tensor must train
        row, column = torch.arange(height * width) // width, torch.arange(height * width) % width
        down = row[:, None] - row + kernel // 2
        right = column[:, None] - column + kernel // 2
        connected = (down >= 0) & (down < kernel) & (right >= 0) & (right < kernel)
        position = torch.where(connected, down * kernel + right, -1).flatten()
        return (position[:, None] == torch.arange(kernel * kernel)).to(dtype)
