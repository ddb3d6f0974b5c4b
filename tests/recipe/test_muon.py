"""Muon against torch's Muon and its fallback optimizers."""

import math

import pytest
import torch
from torch import nn

from minuteloop.recipe.optimizers.muon import Muon
from minuteloop.recipe.optimizers.newton_schulz import orthogonalize
from minuteloop.recipe.param_groups import parameter_groups
from minuteloop.validation import ConfigError, check


class OneOfEachGroup(nn.Module):
    """A net with one parameter in each parameter group."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10, bias=False)


def set_random_gradients(net, step, *others):
    generator = torch.Generator().manual_seed(step)
    for parameter, *copies in zip(net.parameters(), *(other.parameters() for other in others), strict=True):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        for copy in copies:
            copy.grad = parameter.grad.clone()


@pytest.mark.parametrize("shape", [(24, 48), (16, 16)])
def test_orthogonalized_singular_values_are_near_one(shape):
    matrices = torch.randn(3, *shape)
    for matrix, result in zip(matrices, orthogonalize(matrices, 8), strict=True):
        s = torch.linalg.svdvals(result)
        assert s.min() > 0.6 and s.max() < 1.3  # the coefficients converge to that band, not to 1 (Jordan 2024b)
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        cosine = (result * (left @ right)).sum() / (s.norm() * min(shape) ** 0.5)
        assert cosine > 0.95


def test_muon_matches_torch_muon():
    shapes = [(24, 48), (48, 24), (16, 16), (24, 48)]  # three are orthogonalized together, one alone
    initial = [torch.randn(shape) / 5 for shape in shapes]
    ours, theirs = ([nn.Parameter(start.clone()) for start in initial] for _ in range(2))
    groups = [{"name": "matrix", "params": ours, "weight_decay": 0.1}]
    groups.append({"name": "head", "params": [nn.Parameter(torch.zeros(2, 2))], "weight_decay": 0.0})
    muon = Muon(momentum=0.9, ns_steps=5, renormalise=False)(groups, 0.02)
    reference = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.1, momentum=0.9, nesterov=True, ns_steps=5, adjust_lr_fn="original"
    )
    for step in range(5):
        set_random_gradients(nn.ParameterList(ours), step, nn.ParameterList(theirs))
        muon.step()
        reference.step()
    for mine, other, start in zip(ours, theirs, initial, strict=True):
        # both work in bfloat16, where rounding depends on the scale of the momentum
        assert (mine - other).norm() < 0.03 * (other - start).norm()


@pytest.mark.parametrize("fallback", ["sgd", "adamw"])
def test_the_fallback_matches_torch_with_its_own_learning_rates(fallback):
    ingredient = Muon(
        base_lr=0.02, fallback=fallback, head_lr=0.3, depthwise_lr=0.2, bias_lr=0.1, fallback_momentum=0.8
    )
    ours, theirs = OneOfEachGroup(), OneOfEachGroup()
    theirs.load_state_dict(ours.state_dict())
    optimizer = ingredient(parameter_groups(ours, 0.05), 0.02)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {
        "matrix": 0.02,
        "head": 0.3,
        "depthwise": 0.2,
        "no_decay": 0.1,
    }
    groups = [
        {"params": [theirs.head.weight], "lr": 0.3, "weight_decay": 0.05},
        {"params": [theirs.depthwise.weight], "lr": 0.2, "weight_decay": 0.05},
        {"params": [theirs.norm.weight, theirs.norm.bias], "lr": 0.1, "weight_decay": 0.0},
    ]
    if fallback == "sgd":
        reference = torch.optim.SGD(groups, momentum=0.8, nesterov=True)
    else:
        reference = torch.optim.AdamW(groups, betas=(0.8, 0.999))
    for step in range(3):
        set_random_gradients(ours, step, theirs)
        optimizer.step()
        reference.step()
    for name in ("head.weight", "depthwise.weight", "norm.weight", "norm.bias"):
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name))


def test_the_peak_rate_scales_the_rates_of_all_groups():
    ingredient = Muon(base_lr=0.24, head_lr=1.656, depthwise_lr=0.7, bias_lr=106.0)
    groups = parameter_groups(OneOfEachGroup(), 0.05)

    def rates(lr):
        return {group["name"]: group["lr"] for group in ingredient(groups, lr).param_groups}

    assert rates(ingredient.auto_lr(128, 2.0)) == {"matrix": 0.24, "head": 1.656, "depthwise": 0.7, "no_decay": 106.0}
    assert rates(0.06) == pytest.approx({"matrix": 0.06, "head": 0.414, "depthwise": 0.175, "no_decay": 26.5})
    assert set(rates(0.0).values()) == {0.0}


@pytest.mark.parametrize(("renormalise", "decayed"), [(True, set()), (False, {"matrix"})])
def test_decay_of_matrices_acts_only_without_renormalise(renormalise, decayed):
    def trained(decay):
        torch.manual_seed(0)
        net = OneOfEachGroup()
        optimizer = Muon(renormalise=renormalise)(parameter_groups(net, decay), 0.1)
        set_random_gradients(net, 0)
        optimizer.step()
        return {group["name"]: group["params"][0].detach() for group in optimizer.param_groups}

    without, with_decay = trained(0.0), trained(0.1)
    moved = {name for name, weight in without.items() if not torch.equal(weight, with_decay[name])}
    assert moved == {"head", "depthwise"} | decayed


def test_renormalise_scales_matrices_to_the_root_of_their_rows():
    net = OneOfEachGroup()
    optimizer = Muon(renormalise=True)(parameter_groups(net, 0.0), lr=0.0)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    assert net.stem.weight.norm().item() == pytest.approx(math.sqrt(8))


def test_a_reloaded_muon_continues_bit_exactly():
    def train(net, optimizer, steps):
        for step in steps:
            set_random_gradients(net, step)
            optimizer.step()

    ingredient, uninterrupted, resumed = Muon(fallback="adamw"), OneOfEachGroup(), OneOfEachGroup()
    resumed.load_state_dict(uninterrupted.state_dict())
    train(uninterrupted, ingredient(parameter_groups(uninterrupted, 0.1), 0.02), range(6))
    first = ingredient(parameter_groups(resumed, 0.1), 0.02)
    train(resumed, first, range(3))
    second = ingredient(parameter_groups(resumed, 0.1), 0.02)
    second.load_state_dict(first.state_dict())
    train(resumed, second, range(3, 6))
    for name, tensor in uninterrupted.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_every_parameter_is_in_one_group_and_frozen_ones_in_none():
    net = OneOfEachGroup()
    net.norm.weight.requires_grad_(False)
    groups = {group["name"]: group["params"] for group in parameter_groups(net, 0.1)}
    assert [parameter is net.stem.weight for parameter in groups["matrix"]] == [True]
    assert [parameter is net.depthwise.weight for parameter in groups["depthwise"]] == [True]
    assert [parameter is net.head.weight for parameter in groups["head"]] == [True]
    assert [parameter is net.norm.bias for parameter in groups["no_decay"]] == [True]


@pytest.mark.parametrize("momentum", [0, 1])
def test_fallback_momentum_must_be_between_0_and_1(momentum):
    with pytest.raises(ConfigError, match=rf"fallback_momentum={momentum}: must be a number in \(0, 1\)"):
        check(Muon(fallback_momentum=momentum))
