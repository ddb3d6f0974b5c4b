"""Optimizers against torch and closed forms."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.recipe.optimizers.adamw import AdamW
from minuteloop.recipe.optimizers.lamb import LAMB
from minuteloop.recipe.optimizers.lion import Lion
from minuteloop.recipe.optimizers.rmsprop import RMSProp
from minuteloop.recipe.optimizers.sgd import SGD
from minuteloop.validation import ConfigError, check


def train_steps(ingredient, steps=3, lr=0.01, decay=0.1):
    """Return the initial (weight, bias), and the weight and the bias after `steps` steps with growing gradients."""
    weight, bias = (nn.Parameter(torch.tensor(values)) for values in ([[3.0, 4.0]], [1.0]))
    initial = weight.detach().clone(), bias.detach().clone()
    groups = [
        {"name": "matrix", "params": [weight], "weight_decay": decay},
        {"name": "no_decay", "params": [bias], "weight_decay": 0.0},
    ]
    optimizer = ingredient(groups, lr)
    for step in range(1, steps + 1):
        weight.grad, bias.grad = torch.tensor([[0.3, -0.4]]) * step, torch.tensor([0.1]) * step
        optimizer.step()
    return initial, weight.detach(), bias.detach()


def test_adamw_and_sgd_match_torch():
    for ours, theirs in (
        (AdamW(), lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.05)),
        (SGD(), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05)),
    ):
        weights = [nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)) for _ in range(2)]
        optimizers = [ours([{"params": [weights[0]], "weight_decay": 0.05}], 0.1), theirs([weights[1]])]
        for step in range(3):
            for weight, optimizer in zip(weights, optimizers, strict=True):
                weight.grad = torch.sin(weight.detach() + step)
                optimizer.step()
        torch.testing.assert_close(*weights)


def test_lamb_moves_a_weight_by_lr_times_its_norm_and_a_bias_like_adam():
    (weight, bias), new_weight, new_bias = train_steps(LAMB(), steps=1, decay=0.0001)
    assert (new_weight - weight).norm() == pytest.approx(0.01 * weight.norm().item(), rel=1e-3)  # You 2020, algorithm 2
    assert (new_bias - bias).abs().item() == pytest.approx(0.01, rel=1e-3)


def test_lion_moves_each_weight_by_lr():
    (weight, bias), new_weight, new_bias = train_steps(Lion(), steps=1)
    torch.testing.assert_close(new_weight, weight * (1 - 0.01 * 0.1) - 0.01 * torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(new_bias, bias - 0.01)


def test_rmsprop_matches_tensorflow():
    (_, bias), _, new_bias = train_steps(RMSProp(momentum=0.5), steps=2, decay=0.0)
    square, momentum, value = 1.0, 0.0, bias.item()
    for gradient in (0.1, 0.2):
        square = 0.9 * square + 0.1 * gradient**2
        momentum = 0.5 * momentum + 0.01 * gradient / math.sqrt(square + 1e-3)
        value -= momentum
    assert new_bias.item() == pytest.approx(value, rel=1e-5)


def test_bias_factor_multiplies_the_learning_rate_of_biases():
    ingredient = SGD(bias_factor=64, nesterov=False, momentum=0)
    (weight, bias), new_weight, new_bias = train_steps(ingredient, steps=1, decay=0)
    torch.testing.assert_close(new_weight, weight - 0.01 * torch.tensor([[0.3, -0.4]]))
    torch.testing.assert_close(new_bias, bias - 0.64 * 0.1)


@pytest.mark.parametrize(
    ("ingredient", "expected"),
    [
        (LAMB(), {(2048, 100): 5e-3, (512, 100): 2.5e-3, (2048, 600): 5e-3, (2048, 50): 1e-2, (2048, 1): 4e-2}),
        (Lion(), {(512, 300): 5e-5, (1024, 300): 1e-4, (512, 1): 1.6e-3}),
        (RMSProp(), {(4096, 350): 0.256, (128, 3): 0.008}),
    ],
)
def test_automatic_learning_rates(ingredient, expected):
    for (batch_size, epochs), lr in expected.items():
        assert ingredient.auto_lr(batch_size, epochs) == pytest.approx(lr)


def test_automatic_learning_rate_of_deit_is_the_papers_at_300_epochs():
    optimizer = instantiate.ingredients(compose(["recipe=deit"]).recipe).optimizer
    assert optimizer.auto_lr(1024, 300) == pytest.approx(1e-3)  # Touvron 2021, table 9: 5e-4 x 1024 / 512
    assert optimizer.auto_lr(512, 300) == pytest.approx(5e-4)
    assert optimizer.auto_lr(128, 30) == pytest.approx(10 * optimizer.auto_lr(128, 300))
    assert optimizer.auto_lr(128, 0.1) == 4e-3
    rates = [optimizer.auto_lr(128, epochs) for epochs in (1, 3, 10, 30, 100, 300, 1000)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == rates[-2]


@pytest.mark.parametrize("cls", [AdamW, LAMB, Lion, RMSProp, SGD])
def test_fields_of_the_automatic_rate_act_on_nothing_else(cls):
    ingredient = cls()
    for name in cls.auto_lr_fields:
        changed = dataclasses.replace(ingredient, **{name: 2 * getattr(ingredient, name)})
        assert any(changed.auto_lr(64, epochs) != ingredient.auto_lr(64, epochs) for epochs in (1e-3, 75.0, 1e3)), name
        for ours, theirs in zip(train_steps(ingredient)[1:], train_steps(changed)[1:], strict=True):
            assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("cls", [AdamW, LAMB, Lion])
def test_invalid_betas_raise(cls):
    with pytest.raises(ConfigError, match=r"recipe.optimizer.betas=\[0.9\]: must be two numbers in \[0, 1\)"):
        check(cls(betas=[0.9]), "recipe.optimizer.")


def test_nesterov_without_momentum_raises():
    with pytest.raises(ConfigError, match="momentum=0: must be > 0 with nesterov=true"):
        SGD(momentum=0)
