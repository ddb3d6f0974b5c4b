"""Nets of the fast lane: published counts, whitening, identity initialization, heads and sums."""

import shutil

import pytest
import torch

from minuteloop.config.compose import compose
from minuteloop.data.cifar import load
from minuteloop.nets.flops import count
from minuteloop.nets.layers import Whitening
from minuteloop.nets.net import build_net
from minuteloop.nets.program import spell
from minuteloop.nets.spec import resolve


def net_spec(*overrides: str):
    config = compose(["size=tiny", *overrides])
    return resolve(config.arch, config.size, 32, 10)


def normalized_images() -> torch.Tensor:
    images = load("sample")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (images.mean, images.std))
    return (torch.from_numpy(images.train_images[:500]) / 255 - mean) / std


@pytest.mark.parametrize(
    ("arch", "params", "macs"),
    [
        ("resnet9", 6_573_120, 379_261_952),  # the code of DAWNBench's entry, instantiated
        ("airbench", 1_972_792, 118_147_360),  # likewise; 0.236 GFLOP
    ],
)
def test_params_and_macs_are_the_published_ones(arch, params, macs):
    cost = count(net_spec(f"arch={arch}"), 32)
    assert (cost.params, cost.macs) == (params, macs)


def test_airbench_has_the_programs_and_resolutions_of_its_code():
    net = net_spec("arch=airbench")
    assert spell(net.stem, 24) == "whiten2:24 gelu" and net.stem_resolution == 31
    assert [(stage.resolution, stage.width) for stage in net.stages] == [(15, 64), (7, 256), (3, 256)]
    for stage in net.stages:
        assert spell(stage.transition, stage.width) == "conv3:w maxpool2/2 bn gelu"
        assert [block.text(stage.width) for block in stage.blocks] == ["conv3:w bn gelu"]
    assert net.text().endswith("head     max linear:10 without bias x 0.111111")


def test_a_convnext_can_downsample_as_airbench_does():
    net = net_spec("arch=convnext", "size=pico", "modernization=[batchnorm,maxpool_downsampling]")
    downsampling = [
        spell(net.stem, net.stem_width),
        *(spell(stage.transition, stage.width) for stage in net.stages[1:]),
    ]
    assert downsampling == 4 * ["conv3:w maxpool2/2 bn gelu"]
    assert [stage.resolution for stage in net.stages] == [16, 8, 4, 2]
    unstrided = net_spec("arch=resnet18", "modernization=[maxpool_downsampling]")
    assert spell(unstrided.stem, 64) == "conv3:w bn relu" and unstrided.stages[1].blocks[0].ops[0].stride == 1


def test_whitened_patches_are_uncorrelated_with_unit_variance():
    images = normalized_images()
    stem = Whitening(3, 24, 2)
    stem.init_from(images)
    stem.bias.data.zero_()
    with torch.no_grad():
        maps = stem(images)
    assert torch.equal(maps[:, :12], -maps[:, 12:])
    covariance = torch.cov(maps[:, :12].transpose(0, 1).flatten(1))
    # a direction with eigenvalue v keeps the variance v / (v + EPS), least for the last one
    assert torch.allclose(covariance - covariance.diag().diag(), torch.zeros(12, 12), atol=1e-3)
    assert covariance.diag()[0].item() == pytest.approx(1, abs=1e-3)
    assert (covariance.diag() <= 1.0001).all() and (covariance.diag() > 0.5).all()
    assert not stem.weight.requires_grad and stem.bias.requires_grad


def test_only_a_whitening_stem_is_initialized_from_images():
    for arch, changes in (("resnet9", False), ("airbench", True)):
        net = build_net(net_spec(f"arch={arch}"))
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        net.init_from(normalized_images())
        changed = [name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])]
        assert changed == (["stem.0.weight"] if changes else [])


def test_dirac_weights_pass_their_input_through():
    net = build_net(net_spec("arch=resnet9", "modernization=[dirac_init]"))
    convolution = net.stages[0].transition[0]  # 64 -> 128 channels
    x = torch.randn(2, 64, 8, 8)
    with torch.no_grad():
        y = convolution(x)
    torch.testing.assert_close(y[:, :64], x)
    assert not torch.allclose(y[:, 64:], x)


def test_the_head_max_pools_and_scales():
    net = build_net(net_spec("arch=resnet9")).eval()
    x = torch.randn(2, 512, 4, 4)
    expected = 0.125 * x.amax((2, 3)) @ net.head.linear.weight.T
    torch.testing.assert_close(net.head(x), expected)


@pytest.mark.parametrize(
    ("shortcut", "programs"),
    [
        ("conv", ["conv3/2:w bn relu + pw/2:w bn", "conv3:w bn relu + x"]),
        ("identity", ["conv3/2:w bn relu", "conv3:w bn relu + x"]),
        ("none", ["conv3/2:w bn relu", "conv3:w bn relu"]),
    ],
)
def test_the_shortcut_decides_where_sums_are(shortcut, programs):
    net = net_spec("arch=resnet18", "arch.block.layout=K", "arch.block.acts=branch", f"arch.block.shortcut={shortcut}")
    assert [block.text(128) for block in net.stages[1].blocks] == programs


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles for CPUs with g++")
def test_a_compiled_net_with_a_max_head_has_finite_gradients_in_bf16():
    config = compose(["arch=airbench", "size=nano", "arch.stages.keep=1"])
    net = build_net(resolve(config.arch, config.size, 32, 10)).to(memory_format=torch.channels_last)
    net.compile()
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(16, 3, 32, 32)).float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None)
