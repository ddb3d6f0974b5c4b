"""Callbacks and regularizers against closed forms and short training runs."""

import dataclasses
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.data.cifar import load
from minuteloop.data.datamodule import CIFARDataModule
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.recipe.callbacks.agc import AGC
from minuteloop.recipe.callbacks.ema import EMA
from minuteloop.recipe.callbacks.freeze import Freeze
from minuteloop.recipe.callbacks.lookahead import Lookahead
from minuteloop.recipe.regularizers.batch_norm import BatchNorm
from minuteloop.recipe.regularizers.ghost_batch_norm import GhostBatchNorm
from minuteloop.training.classifier import Classifier
from minuteloop.training.plan import Plan
from minuteloop.validation import ConfigError


def at_step(global_step=0) -> SimpleNamespace:
    """Return what a callback reads of a trainer."""
    return SimpleNamespace(global_step=global_step)


def module_of(net) -> SimpleNamespace:
    """Return what a callback reads of a module."""
    return SimpleNamespace(net=net)


def one_weight() -> nn.Module:
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(1.0)
    return net


# --- callbacks ----------------------------------------------------------------------------------------------------


def test_default_ema_window_is_deits_decay_at_300_epochs():
    assert EMA().decay(300_000, 300 * 1251) == pytest.approx(0.99996, abs=1e-7)
    assert EMA().decay(0, 1000) == 0.1


def test_ema_in_closed_form_and_after_a_reload():
    net, steps, average = one_weight(), 4, 1.0
    callback = EMA(window=0.5).callback(steps)
    callback.on_train_start(at_step(), module_of(net))
    for step, weight in enumerate((2.0, 3.0, 5.0), 1):
        if step == 3:
            state = callback.state_dict()
            callback = EMA(window=0.5).callback(steps)
            callback.load_state_dict(state)
            callback.on_train_start(at_step(), module_of(net))
        net.weight.data.fill_(weight)
        callback.on_train_batch_end(at_step(step), module_of(net))
        decay = min(1 - 1 / 2, (1 + step) / (10 + step))  # a window of 2 steps
        average = decay * average + (1 - decay) * weight
    callback.on_validation_start(at_step(), module_of(net))
    assert net.weight.item() == pytest.approx(average)
    callback.on_validation_end(at_step(), module_of(net))
    assert net.weight.item() == 5
    callback.on_train_end(at_step(), module_of(net))
    assert net.weight.item() == pytest.approx(average)


def test_lookahead_in_closed_form():
    net = one_weight()
    module, steps = module_of(net), 4
    callback = Lookahead(every=2, decay=0.5, power=1.0).callback(steps)
    callback.on_train_start(at_step(), module)
    for step, fast in ((1, 2.0), (2, 3.0)):
        net.weight.data.fill_(fast)
        callback.on_train_batch_end(at_step(step), module)
    # at step 2 of 4 the slow weight keeps 0.5**2 * 0.5 of itself
    slow = 0.125 * 1 + 0.875 * 3
    assert net.weight.item() == pytest.approx(slow)
    for step, fast in ((3, 10.0), (4, 0.0)):
        net.weight.data.fill_(fast)
        callback.on_train_batch_end(at_step(step), module)
    slow = 0.25 * slow
    assert net.weight.item() == pytest.approx(slow)
    net.weight.data.fill_(7.0)  # a step after the last reset
    callback.on_train_end(at_step(4), module)
    assert net.weight.item() == pytest.approx(slow)


def test_agc_clips_each_filter_except_the_heads():
    net = nn.ModuleDict({"conv": nn.Conv2d(2, 3, 1, bias=False), "head": nn.Linear(3, 4, bias=False)})
    optimizer = torch.optim.SGD(
        [
            {"name": "matrix", "params": [net["conv"].weight]},
            {"name": "head", "params": [net["head"].weight]},
        ],
        lr=0.1,
    )
    with torch.no_grad():
        net["conv"].weight.copy_(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]).view(3, 2, 1, 1))
    net["conv"].weight.grad = torch.tensor([[0.01, 0.0], [1.0, 0.0], [0.0, 1.0]]).view(3, 2, 1, 1)
    net["head"].weight.grad = torch.ones(4, 3)
    AGC(factor=0.01).callback(10).on_before_optimizer_step(pl.Trainer, None, optimizer)
    clipped = net["conv"].weight.grad.view(3, 2)
    # Brock 2021b, eq. 3: at most 0.01 of each filter's norm, or of 1e-3
    torch.testing.assert_close(clipped, torch.tensor([[0.01, 0.0], [0.005, 0.0], [0.0, 1e-5]]))
    assert torch.equal(net["head"].weight.grad, torch.ones(4, 3))


def test_freeze_ends_training_at_its_fraction_and_shortens_the_backward_pass():
    config = compose(["arch=resnet18", "recipe=plain", "size=nano", "recipe.batch_size=32"])
    net = build_net(resolve(config.arch, config.size, 32, 10))
    stem = Freeze(pattern="stem.*", fraction=0)
    stages = Freeze(pattern="stages.[01].*", fraction=0.5)
    ingredients = dataclasses.replace(
        instantiate.ingredients(config.recipe), callbacks={"stem": stem, "stages": stages}
    )
    assert ingredients.starts == (0, 0.5)
    data, plan = load("sample"), Plan(4, 32, 1.0, 1.0, 0.1, 0.0, seconds_asked=None)
    module, trained = Classifier(net, ingredients, plan, data), []

    class RecordTrained(pl.Callback):
        def on_train_batch_end(self, *_):
            named = net.named_parameters()
            trained.append({".".join(name.split(".")[:2]) for name, p in named if p.grad is not None and p.grad.any()})

    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", max_steps=4, callbacks=[RecordTrained()], logger=False, **quiet)
    trainer.fit(module, CIFARDataModule(data, 32, holdout=200, pipeline=module.pipeline))
    late = {"stages.2", "stages.3", "head.linear"}
    assert trained == [late | {"stages.0", "stages.1"}] * 2 + [late] * 2
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_freeze_rejects_patterns_that_match_no_or_all_parameters():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"freeze.pattern=stem.9.bias: must match a trained parameter"):
        Freeze(pattern="stem.9.bias").callback(4).on_train_start(at_step(), module_of(net))
    with pytest.raises(ConfigError, match=r"freeze.pattern=\*: must leave a parameter to train"):
        Freeze(pattern="*").parameters(net)
    assert len(Freeze(pattern="*", fraction=1).parameters(net)) == 4


# --- regularizers -------------------------------------------------------------------------------------------------


def test_batch_norm_is_set_and_its_scale_frozen():
    net = nn.Sequential(nn.BatchNorm2d(8))
    BatchNorm()(net)
    assert (net[0].momentum, net[0].eps, net[0].weight.requires_grad) == (0.4, 1e-12, False)
    BatchNorm(scale=True)(net)
    assert not net[0].weight.requires_grad, "frozen parameters stay frozen as phases change"


def test_ghost_batch_norm_normalizes_each_group_separately():
    net, x = nn.Sequential(nn.BatchNorm2d(3)), torch.randn(64, 3, 4, 4) * torch.linspace(1, 5, 64)[:, None, None, None]
    plain = nn.BatchNorm2d(3)
    GhostBatchNorm(ghost_batch_size=16)(net)
    GhostBatchNorm(ghost_batch_size=16)(net)  # a calibration converts the net too
    expected = torch.cat([plain(group) for group in x.split(16)])
    torch.testing.assert_close(net.train()(x), expected)
    assert net[0].momentum == 0.1 and not net[0].running_var.equal(torch.ones(3))


def test_ghost_batch_norm_counts_all_groups_as_one_batch():
    x = torch.randn(16, 3, 4, 4)
    plain, net = nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3))
    plain(x.repeat(4, 1, 1, 1))
    GhostBatchNorm(ghost_batch_size=16)(net)
    net(x.repeat(4, 1, 1, 1))
    torch.testing.assert_close(net[0].running_mean, plain.running_mean)
    expected = nn.functional.batch_norm(x, net[0].running_mean, net[0].running_var)
    assert torch.equal(net.eval()(x), expected)


def test_ghost_batch_norm_rejects_nets_it_cannot_convert():
    with pytest.raises(ConfigError, match="the net has no batch norm"):
        GhostBatchNorm()(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="cannot split BatchNormAct2d"):
        GhostBatchNorm()(nn.Sequential(nn.BatchNorm2d(2), BatchNormAct2d(2)))
