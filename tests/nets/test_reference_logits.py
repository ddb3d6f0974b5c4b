"""End points of the roadmap against torchvision and timm: logits, gradients and initial weights."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from minuteloop.config.compose import compose
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve

IMAGE_SIZE = 64  # pixels; stem and total stride as at 224


def resnet_name(name: str) -> str:
    """Translate our name of a tensor to torchvision's."""
    part, _, rest = name.replace("branches.0", "branch").partition(".")
    if part == "stem":
        return rest.replace("0.", "conv1.", 1) if rest.startswith("0.") else rest.replace("1.", "bn1.", 1)
    if part == "head":
        return rest.replace("linear.", "fc.")
    stage, _, block, kind, index, tensor = rest.split(".")
    if kind == "shortcut":
        return f"layer{int(stage) + 1}.{block}.downsample.{index}.{tensor}"
    # conv, norm, act, conv, norm, act, ...
    layer = ("conv", "bn")[int(index) % 3] + str(int(index) // 3 + 1)
    return f"layer{int(stage) + 1}.{block}.{layer}.{tensor}"


def convnext_name(name: str) -> str:
    """Translate our name of a tensor to timm's."""
    if name.startswith("stem."):
        return name
    if name.startswith("head."):
        return name.replace("norm.0", "norm").replace("linear", "fc")
    name = name.replace("transition", "downsample").replace("layer_scales.0.", "").replace("branches.0", "branch")
    for index, layer in {0: "conv_dw", 1: "norm", 2: "mlp.fc1", 4: "mlp.fc2"}.items():
        name = name.replace(f"branch.{index}.", f"{layer}.")
    return name


REFERENCES = {
    "resnet18": (torchvision.models.resnet18, resnet_name),
    "resnet": (torchvision.models.resnet50, resnet_name),
    "convnext": (lambda: timm.create_model("convnext_tiny"), convnext_name),
}


def pair(arch: str) -> tuple[nn.Module, nn.Module]:
    """Return our net and the reference, with their own initial weights."""
    torch.manual_seed(0)
    config = compose([f"arch={arch}", "size=tiny", "size.reduce=32"])
    return build_net(resolve(config.arch, config.size, IMAGE_SIZE, 1000)), REFERENCES[arch][0]()


@pytest.mark.parametrize("arch", REFERENCES)
def test_initial_weights_follow_fan_in_and_other_tensors_equal_the_reference(arch):
    net, reference = pair(arch)
    theirs = reference.state_dict()
    for name, tensor in net.state_dict().items():
        if tensor.ndim > 1:
            assert tensor.std() == pytest.approx(tensor[0].numel() ** -0.5, rel=0.05), name
            assert tensor.mean().abs() < 5 * tensor.std() / tensor.numel() ** 0.5, name
        elif name == "head.linear.bias":
            assert not tensor.any()
        else:
            assert torch.equal(tensor, theirs[REFERENCES[arch][1](name)].reshape(tensor.shape)), name


@pytest.mark.parametrize("arch", REFERENCES)
def test_same_weights_give_same_logits_and_gradients(arch):
    net, reference = pair(arch)
    to_theirs = REFERENCES[arch][1]
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in reference.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                tensor.normal_(0, 0.2)
            elif name.endswith("gamma") or tensor.ndim == 1:
                tensor.normal_(0.5, 0.2)
    theirs = reference.state_dict()
    ours = {name: theirs[to_theirs(name)].reshape(tensor.shape) for name, tensor in net.state_dict().items()}
    assert {to_theirs(name) for name in ours} == set(theirs)
    net.load_state_dict(ours)

    x = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    logits, expected = net.eval()(x), reference.eval()(x)
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert expected.std() > 0.01

    net.zero_grad()
    reference.zero_grad()
    weights = torch.randn(1000)
    (logits @ weights).sum().backward()
    (expected @ weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, parameter in net.named_parameters():
        gradient = gradients[to_theirs(name)].reshape(parameter.shape)
        assert gradient.abs().max() > 0, name
        assert (parameter.grad - gradient).norm() <= 1e-4 * gradient.norm(), name
