"""CPU kernels and their gradients against torch's own."""

import pytest
import torch

from minuteloop.arch_schema import Block
from minuteloop.nets.cpu_kernels import GELU, LayerNorm, PatchConv
from minuteloop.nets.layers import build
from minuteloop.nets.program import parse


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kernel", "height", "width"), [(5, 8, 8), (7, 4, 4), (7, 2, 5), (11, 1, 1), (7, 9, 9), (3, 8, 8), (3, 2, 2)]
)
def test_depthwise_convolution_and_its_gradients_match_conv2d(kernel, height, width, bias):
    torch.manual_seed(0)
    (conv,) = build(parse(f"dw{kernel}", Block(bias=bias), c=6, w=6))
    x = torch.randn(3, 6, height, width).to(memory_format=torch.channels_last)
    results = []
    for convolve in (conv, lambda x: torch.nn.functional.conv2d(x, conv.weight, conv.bias, 1, kernel // 2, 1, 6)):
        leaf = x.clone().requires_grad_()
        y = convolve(leaf)
        results.append([y, *torch.autograd.grad(y.square().sum(), [leaf, *conv.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "resolution", "bias"), [(1, 4, True), (1, 5, False), (2, 4, True), (2, 7, False), (4, 8, True)]
)
def test_patch_convolution_and_its_gradients_match_conv2d(kernel, resolution, bias):
    torch.manual_seed(0)
    ours = PatchConv(16, 24, kernel, kernel, bias=bias)
    x = torch.randn(3, 16, resolution, resolution).to(memory_format=torch.channels_last)
    results = []
    for call in (ours, lambda x: torch.nn.functional.conv2d(x, ours.weight, ours.bias, kernel)):
        ours.zero_grad()
        leaf = x.clone().requires_grad_()
        y = call(leaf)
        y.square().sum().backward()
        results.append([y.detach(), leaf.grad, ours.weight.grad.clone()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [12, 24, 32])
@pytest.mark.parametrize("frozen", ["none", "maps", "weight"])
def test_gradients_of_layer_norm_match_torch_in_float64(channels, frozen):
    torch.manual_seed(0)
    ours = LayerNorm(channels, eps=1e-6)
    torch.nn.init.normal_(ours.weight)
    torch.nn.init.normal_(ours.bias)
    ours.weight.requires_grad_(frozen != "weight")
    x = (3 + 2 * torch.randn(5, channels, 4, 6)).to(memory_format=torch.channels_last)
    x.requires_grad_(frozen != "maps")
    grad_output = torch.randn(x.shape)
    wanted = [tensor for tensor in (x, ours.weight, ours.bias) if tensor.requires_grad]
    results = [torch.autograd.grad(ours(x), wanted, grad_output)]
    precise = [tensor.detach().double().requires_grad_() for tensor in wanted]
    remaining = iter(precise)
    x, weight, bias = (next(remaining) if t.requires_grad else t.double() for t in (x, ours.weight, ours.bias))
    y = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (channels,), weight, bias, 1e-6).permute(0, 3, 1, 2)
    results.append(torch.autograd.grad(y, precise, grad_output.double()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_and_its_gradient_are_exact_in_any_memory_format(dtype):
    torch.manual_seed(0)
    x = (3 * torch.randn(4, 6, 5, 7)).to(dtype)
    for maps in (x, x.to(memory_format=torch.channels_last), x[:, ::2, 1:]):
        for grad_output in (torch.randn(maps.shape).to(dtype), torch.randn(4, 1, 1, 1).to(dtype).expand(maps.shape)):
            leaf, exact = maps.detach().requires_grad_(), maps.double().requires_grad_()
            y, phi = GELU()(leaf), (1 + torch.erf(exact / 2**0.5)) / 2
            y.backward(grad_output)
            (exact * phi).backward(grad_output.double())
            close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-2, "rtol": 1e-2}
            torch.testing.assert_close(y.double(), exact * phi, **close)
            torch.testing.assert_close(leaf.grad.double(), exact.grad, **close)
            assert maps is x or y.stride() == torch.empty_like(maps).stride()
