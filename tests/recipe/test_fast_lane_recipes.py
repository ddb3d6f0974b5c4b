"""The fast lane's ingredients against torch's Muon, closed forms and real images."""

import dataclasses
import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.data.cifar import load
from minuteloop.data.datamodule import CIFARDataModule
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.recipe.augment.alternating_flip import AlternatingFlip
from minuteloop.recipe.augment.crop import Crop
from minuteloop.recipe.callbacks.freeze import Freeze
from minuteloop.recipe.callbacks.lookahead import Lookahead
from minuteloop.recipe.optimizers.muon import Muon, orthogonalise
from minuteloop.recipe.param_groups import parameter_groups
from minuteloop.recipe.regularizers.batch_norm import BatchNorm
from minuteloop.recipe.schedules import Triangle
from minuteloop.recipe.tta import Views, shift_reflecting
from minuteloop.training.classifier import Classifier
from minuteloop.training.plan import Plan
from minuteloop.validation import ConfigError


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def images() -> torch.Tensor:
    """Real images, uint8 [64,3,32,32]."""
    return torch.from_numpy(load("sample").train_images[:64])


class Tiny(nn.Module):
    """One parameter of each group."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10, bias=False)

    def forward(self, x):
        return self.head(self.norm(self.depthwise(self.stem(x))).mean((2, 3)))


# --- Muon --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24, 48), (16, 16)])
def test_orthogonalised_singular_values_are_near_one(shape):
    for matrix, found in zip(matrices := torch.randn(3, *shape), orthogonalise(matrices, 8), strict=True):
        s = torch.linalg.svdvals(found)
        assert s.min() > 0.6 and s.max() < 1.3  # the coefficients converge to that band, not to 1 (Jordan 2024b)
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        cosine = (found * (left @ right)).sum() / (s.norm() * min(shape) ** 0.5)
        assert cosine > 0.95


def test_muon_steps_as_torch_muon():
    starts = [torch.randn(shape) / 5 for shape in [(24, 48), (48, 24), (16, 16), (24, 48)]]  # three at once, and one
    ours, theirs = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    groups = [{"name": "matrix", "params": ours, "weight_decay": 0.1}]
    groups.append({"name": "head", "params": [nn.Parameter(torch.zeros(2, 2))], "weight_decay": 0.0})
    muon = Muon(momentum=0.9, ns_steps=5, renormalise=False)(groups, 0.02)
    reference = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.1, momentum=0.9, nesterov=True, ns_steps=5, adjust_lr_fn="original"
    )
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        muon.step()
        reference.step()
    for mine, other, start in zip(ours, theirs, starts, strict=True):
        # both work in bfloat16, whose rounding differs with the momentum's scale
        assert (mine - other).norm() < 0.03 * (other - start).norm()


@pytest.mark.parametrize("partner", ["sgd", "adamw"])
def test_the_partner_steps_as_itself_with_its_own_rates(partner):
    ingredient = Muon(fallback=partner, head_lr=0.3, depthwise_lr=0.2, bias_lr=0.1, fallback_momentum=0.8)
    ours, theirs = Tiny(), Tiny()
    theirs.load_state_dict(ours.state_dict())
    optimizer = ingredient(parameter_groups(ours, 0.05), 0.02)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {
        "matrix": 0.02,
        "head": 0.3,
        "depthwise": 0.2,
        "no_decay": 0.1,
    }
    others = [
        {"params": [theirs.head.weight], "lr": 0.3, "weight_decay": 0.05},
        {"params": [theirs.depthwise.weight], "lr": 0.2, "weight_decay": 0.05},
        {"params": [theirs.norm.weight, theirs.norm.bias], "lr": 0.1, "weight_decay": 0.0},
    ]
    if partner == "sgd":
        reference = torch.optim.SGD(others, momentum=0.8, nesterov=True)
    else:
        reference = torch.optim.AdamW(others, betas=(0.8, 0.999))
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        optimizer.step()
        reference.step()
    for name in ("head.weight", "depthwise.weight", "norm.weight", "norm.bias"):
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name))


def test_renormalised_matrices_keep_the_root_of_their_rows_as_norm_before_each_step():
    net = Tiny()
    optimizer = Muon(renormalise=True)(parameter_groups(net, 0.0), lr=0.0)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    assert net.stem.weight.norm().item() == pytest.approx(math.sqrt(8))


def test_a_reloaded_muon_goes_on_as_if_never_stopped():
    def stepped(net, optimizer, steps):
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()

    ingredient, whole, halves = Muon(fallback="adamw"), Tiny(), Tiny()
    halves.load_state_dict(whole.state_dict())
    stepped(whole, ingredient(parameter_groups(whole, 0.1), 0.02), range(6))
    first = ingredient(parameter_groups(halves, 0.1), 0.02)
    stepped(halves, first, range(3))
    second = ingredient(parameter_groups(halves, 0.1), 0.02)
    second.load_state_dict(first.state_dict())
    stepped(halves, second, range(3, 6))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, halves.state_dict()[name]), name


def test_every_parameter_is_in_one_group_and_frozen_ones_in_none():
    net = Tiny()
    net.norm.weight.requires_grad_(False)
    groups = {group["name"]: group["params"] for group in parameter_groups(net, 0.1)}
    assert [parameter is net.stem.weight for parameter in groups["matrix"]] == [True]
    assert [parameter is net.depthwise.weight for parameter in groups["depthwise"]] == [True]
    assert [parameter is net.head.weight for parameter in groups["head"]] == [True]
    assert [parameter is net.norm.bias for parameter in groups["no_decay"]] == [True]


# --- callbacks and regularisers ----------------------------------------------------------------------------------


class Trainer:
    """What a callback reads of a trainer."""

    def __init__(self, global_step=0, current_epoch=0):
        self.global_step, self.current_epoch = global_step, current_epoch


class Module:
    """What a callback reads of a module."""

    def __init__(self, net=None, seed=0):
        self.net, self.seed = net, seed


def test_lookahead_in_closed_form():
    net = nn.Linear(1, 1, bias=False)
    module, steps = Module(net), 4
    callback = Lookahead(every=2, decay=0.5, power=1.0).callback(steps)
    net.weight.data.fill_(1.0)
    callback.on_train_start(Trainer(), module)
    for step, fast in ((1, 2.0), (2, 3.0)):
        net.weight.data.fill_(fast)
        callback.on_train_batch_end(Trainer(step), module)
    # at step 2 of 4 the slow weight keeps 0.5**2 * 0.5 of itself
    slow = 0.125 * 1 + 0.875 * 3
    assert net.weight.item() == pytest.approx(slow)
    for step, fast in ((3, 10.0), (4, 0.0)):
        net.weight.data.fill_(fast)
        callback.on_train_batch_end(Trainer(step), module)
    slow = 0.25 * slow
    assert net.weight.item() == pytest.approx(slow)
    net.weight.data.fill_(7.0)  # a step that came after the last return
    callback.on_train_end(Trainer(4), module)
    assert net.weight.item() == pytest.approx(slow)


def test_each_image_is_shown_both_ways_in_two_epochs_and_half_of_them_turned_in_each(images):
    def turned(epoch, seed=0):
        return AlternatingFlip()(images, epoch, seed)

    first, second = turned(0), turned(1)
    for image, one, two in zip(images, first, second, strict=True):
        assert torch.equal(one, two.flip(2)) and (torch.equal(one, image) or torch.equal(two, image))
    assert torch.equal(turned(2), first) and torch.equal(turned(3), second)


def test_which_images_begin_turned_is_random_and_differs_between_seeds():
    images = torch.from_numpy(load("sample").train_images)
    starts = []
    for seed in range(4):
        starts.append((AlternatingFlip()(images, 0, seed) != images).flatten(1).any(1))
    for start in starts:
        assert start.float().mean().item() == pytest.approx(0.5, abs=0.05)  # 2,000 images, 4.5 deviations
    for one in range(4):
        for other in range(one):
            assert (starts[one] == starts[other]).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_batch_norm_is_set_and_its_scale_frozen():
    net = Tiny()
    BatchNorm()(net)
    assert (net.norm.momentum, net.norm.eps, net.norm.weight.requires_grad) == (0.4, 1e-12, False)
    BatchNorm(scale=True)(net)
    assert not net.norm.weight.requires_grad, "what an ingredient froze stays frozen as phases change"


def test_triangle_in_closed_form():
    triangle = Triangle(start=0.2, peak=0.25, min_lr_ratio=0.1)
    factors = [triangle(progress, 10.0) for progress in (0, 0.125, 0.25, 0.625, 1)]
    assert factors == pytest.approx([0.2, 0.6, 1.0, 0.55, 0.1])
    assert Triangle(start=1, peak=0, min_lr_ratio=0)(0.25, 10.0) == pytest.approx(0.75)
    assert Triangle(peak=1)(1.0, 10.0) == 1


# --- images ------------------------------------------------------------------------------------------------------


def test_reflecting_crop_cuts_from_torchs_reflected_image(images):
    padded = nn.functional.pad(images.float(), [2] * 4, mode="reflect").to(torch.uint8)
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # [N,3,5,5,32,32]
    cut, _ = Crop(padding=2, fill="reflect")(images, None)
    places = set()
    for image, candidates in zip(cut, windows, strict=True):
        found = [(y, x) for y in range(5) for x in range(5) if torch.equal(image, candidates[:, y, x])]
        assert found
        places.add(found[0])
    assert len(places) > 15


def test_shifts_are_torchs_reflected_windows(images):
    padded = nn.functional.pad(images.float(), [1] * 4, mode="reflect").to(torch.uint8)
    assert torch.equal(shift_reflecting(images, 1), padded[:, :, 0:32, 0:32])
    assert torch.equal(shift_reflecting(images, -1), padded[:, :, 2:34, 2:34])


def test_six_views_are_weighed_as_published():
    images = torch.rand(2, 3, 8, 8)
    seen = []

    def classify(batch):
        seen.append(batch)
        return batch.flatten(1)[:, :4]

    logits = Views(shift=1)(classify, images)
    assert len(seen) == 6
    outputs = [batch.flatten(1)[:, :4] for batch in seen]
    plain = sum(outputs[:2]) / 2
    moved = sum(outputs[2:]) / 4
    torch.testing.assert_close(logits, plain / 2 + moved / 2)
    assert torch.equal(seen[1], images.flip(3))
    assert len(Views(shift=0)(classify, images)) == 2 and len(seen) == 8


def test_sprint_is_the_published_recipe_but_for_what_its_file_says():
    config = compose(["arch=airbench", "recipe=sprint", "size=tiny"])
    ingredients = instantiate.ingredients(config.recipe).at_strength(float(config.recipe.strength))
    assert [transform.smoothing for transform in ingredients.at("targets")] == [0.2]
    assert [(crop.padding, crop.fill) for crop in ingredients.at("pixels")] == [(2, "reflect")]
    assert ingredients.tta == Views(shift=1)


def test_what_is_frozen_stops_at_its_share_of_the_run_and_the_backward_pass_ends_there():
    config = compose(["arch=resnet18", "recipe=plain", "size=nano", "recipe.batch_size=32"])
    net = build_net(resolve(config.arch, config.size, 32, 10))
    stem = Freeze(pattern="stem.*", fraction=0)
    stages = Freeze(pattern="stages.[01].*", fraction=0.5)
    ingredients = dataclasses.replace(instantiate.ingredients(config.recipe), callbacks=(stem, stages))
    assert ingredients.starts == (0, 0.5)
    data, plan = load("sample"), Plan(4, 32, 1.0, 1.0, 0.1, 0.0, seconds_asked=None)
    module, trained = Classifier(net, ingredients, plan, data), []

    class Watch(pl.Callback):
        def on_train_batch_end(self, *_):
            named = net.named_parameters()
            trained.append({".".join(name.split(".")[:2]) for name, p in named if p.grad is not None and p.grad.any()})

    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", max_steps=4, callbacks=[Watch()], logger=False, **quiet)
    trainer.fit(module, CIFARDataModule(data, 32, holdout=200))
    late = {"stages.2", "stages.3", "head.linear"}
    assert trained == [late | {"stages.0", "stages.1"}] * 2 + [late] * 2
    assert all(parameter.requires_grad for parameter in net.parameters())
    with pytest.raises(ConfigError, match=r"freeze.pattern=stem.9.bias: no parameter"):
        Freeze(pattern="stem.9.bias").callback(4).on_train_start(Trainer(), Module(net))
