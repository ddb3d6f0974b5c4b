"""Ingredients against closed forms, timm's distributions and real images."""

import math
import random

import pytest
import torch

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.data.cifar import load
from minuteloop.recipe.augment.crop import Crop
from minuteloop.recipe.augment.cutmix import CutMix
from minuteloop.recipe.augment.flip import Flip
from minuteloop.recipe.augment.label_smoothing import LabelSmoothing
from minuteloop.recipe.augment.mixup import Mixup
from minuteloop.recipe.augment.random_erasing import RandomErasing
from minuteloop.recipe.callbacks.ema import EMA
from minuteloop.recipe.losses import CrossEntropy
from minuteloop.recipe.optimizers.adamw import SGD, AdamW, parameter_groups
from minuteloop.recipe.regularizers.drop_path import DropPath
from minuteloop.recipe.schedules import Cosine

N = 512


@pytest.fixture
def images() -> torch.Tensor:
    """Real images, uint8 [N,3,32,32]."""
    return torch.from_numpy(load("sample").train_images[:N])


@pytest.fixture
def targets() -> torch.Tensor:
    """One-hot [N,10]."""
    return torch.nn.functional.one_hot(torch.arange(N) % 10, 10).float()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def everything():
    for transform in instantiate.ingredients(compose(["recipe=deit"]).recipe).transforms:
        yield pytest.param(transform, id=type(transform).__name__)


@pytest.mark.parametrize("transform", list(everything()))
def test_transform_keeps_shapes_and_types_and_repeats_with_the_seed(transform, images, targets):
    if transform.stage != "pixels":
        images = images.float()

    def once():
        torch.manual_seed(3)
        return (images, transform(targets)) if transform.stage == "targets" else transform(images, targets)

    changed, mixed = once()
    assert changed.shape == images.shape and changed.dtype == images.dtype
    assert mixed.shape == targets.shape
    torch.testing.assert_close(mixed.sum(1), torch.ones(N))
    assert not (torch.equal(changed, images) and torch.equal(mixed, targets))
    for first, second in zip((changed, mixed), once(), strict=True):
        assert torch.equal(first, second)


def test_strength_zero_leaves_out_every_regulariser_and_nothing_else():
    ingredients = instantiate.ingredients(compose(["recipe=deit"]).recipe).at_strength(0.0)
    assert [type(transform) for transform in ingredients.transforms] == [Crop, Flip]
    assert ingredients.regularizers == (DropPath(rate=0.0),) and [type(c) for c in ingredients.callbacks] == [EMA]


def test_strength_multiplies_one_field_and_at_one_it_is_the_paper():
    ingredients = instantiate.ingredients(compose(["recipe=deit"]).recipe)
    assert ingredients.at_strength(1.0) == ingredients
    half = {
        type(ing): ing for ing in (*ingredients.at_strength(0.5).transforms, *ingredients.at_strength(0.5).regularizers)
    }
    assert half[Mixup] == Mixup(alpha=0.8, prob=0.5) and half[CutMix] == CutMix(alpha=1.0, prob=0.5)
    assert half[LabelSmoothing].smoothing == 0.05 and half[DropPath].rate == 0.05
    assert half[RandomErasing].prob == 0.125


def test_flip_mirrors_about_half_of_the_images(images, targets):
    changed, _ = Flip()(images, targets)
    mirrored = (changed == images.flip(3)).flatten(1).all(1)
    kept = (changed == images).flatten(1).all(1)
    assert (mirrored | kept).all()
    assert abs(mirrored.float().mean() - 0.5) < 4 * math.sqrt(0.25 / N)


def test_crop_is_a_window_of_the_padded_image_and_every_place_occurs(images, targets):
    changed, _ = Crop(padding=4)(images, targets)
    padded = torch.nn.functional.pad(images, [4] * 4)
    places = set()
    for before, after in zip(padded, changed, strict=True):
        windows = before.unfold(1, 32, 1).unfold(2, 32, 1)  # [3,9,9,32,32]
        hits = (windows == after[:, None, None]).flatten(3).all(3).all(0).nonzero().tolist()
        assert hits
        places.add(tuple(hits[0]))
    assert len(places) == 81


def test_mixup_blends_with_the_neighbour_by_the_targets_weight(images, targets):
    images = images.float()
    mixed, soft = Mixup(alpha=0.8)(images, targets)
    weight = (soft * targets).sum(1)  # neighbours differ in class here
    expected = weight[:, None, None, None] * images + (1 - weight)[:, None, None, None] * images.roll(1, 0)
    torch.testing.assert_close(mixed, expected, atol=1e-3, rtol=1e-4)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1))
    assert weight.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(1 / (4 * 2.6) / N))
    assert weight.var().item() == pytest.approx(1 / (4 * 2.6), rel=0.15)


def test_cutmix_pastes_a_box_whose_area_is_the_targets_weight(images, targets):
    images = images.float()
    mixed, soft = CutMix()(images, targets)
    weight = (soft * targets).sum(1)
    other = images.roll(1, 0)
    pasted = (mixed != images).any(1)  # [N,32,32]
    assert torch.equal(torch.where(pasted[:, None], other, images), mixed)
    for index in range(64):
        rows, columns = pasted[index].any(1).nonzero(), pasted[index].any(0).nonzero()
        if len(rows):
            box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert 1 - weight[index].item() == pytest.approx(box.item() / 1024, abs=0.02)


def test_prob_is_the_share_of_mixed_samples(images, targets):
    images = images.float()
    for transform in (Mixup(prob=0.3), CutMix(prob=0.3)):
        mixed, soft = transform(images, targets)
        kept = (mixed == images).flatten(1).all(1)
        assert torch.equal(soft[kept], targets[kept])
        assert kept.float().mean().item() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / N) + 0.02)


def test_random_erasing_has_timms_areas(images, targets):
    """Share of erased images, and mean erased area, against timm's own RandomErasing on as many images."""
    from timm.data.random_erasing import RandomErasing as Timm

    random.seed(0)
    blank = torch.full((4096, 3, 32, 32), 7.0)
    ours, _ = RandomErasing(prob=0.5)(blank, None)
    theirs = Timm(probability=0.5, mode="pixel", device="cpu")(blank.clone())
    area = [(changed != 7).any(1).float().mean((1, 2)) for changed in (ours, theirs)]
    assert (area[0] > 0).float().mean().item() == pytest.approx((area[1] > 0).float().mean().item(), abs=0.04)
    for quantile in (0.25, 0.5, 0.75):
        a, b = (values[values > 0].quantile(quantile).item() for values in area)
        assert a == pytest.approx(b, abs=0.02)
    noise = ours[(ours != 7)]
    assert noise.mean().item() == pytest.approx(0, abs=0.01) and noise.std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
@pytest.mark.parametrize("fields", [{"max_area": 0.02}, {"min_area": 1 / 3}, {"min_area": 0.9, "max_area": 1.0}, {}])
def test_every_erased_pixel_has_a_draw_of_its_own(shape, fields):
    erased, _ = RandomErasing(prob=1.0, **fields)(torch.full((512, 3, *shape), 7.0), None)
    found = [image[image != 7] for image in erased]
    assert sum(map(len, found)) > 512 * 30
    same = sum(len(values) - len(values.unique()) for values in found)
    assert same < 0.001 * sum(map(len, found))  # float32 draws seldom meet


def test_label_smoothing_and_loss_agree_with_torch(targets):
    logits = torch.randn(N, 10)
    ours = CrossEntropy()(logits, LabelSmoothing(0.1)(targets))
    theirs = torch.nn.functional.cross_entropy(logits, targets.argmax(1), label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)


def test_cosine_in_closed_form():
    schedule = Cosine(warmup=5, max_warmup_fraction=0.1, min_lr_ratio=0.01)
    for epochs, warmup in ((300, 5 / 300), (10, 0.1), (1, 0.1)):
        assert schedule(0, epochs) == 0 and schedule(1, epochs) == pytest.approx(0.01)
        assert schedule(warmup / 2, epochs) == pytest.approx(0.5) and schedule(warmup, epochs) == pytest.approx(1)
        assert schedule((1 + warmup) / 2, epochs) == pytest.approx(0.01 + 0.99 / 2)
    assert Cosine(warmup=0)(0, 300) == 1


def test_auto_learning_rate_is_the_papers_at_300_epochs():
    rule = instantiate.ingredients(compose(["recipe=deit"]).recipe).optimizer
    assert rule.auto_lr(1024, 300) == pytest.approx(1e-3)  # Touvron 2021, table 9: 5e-4 x 1024 / 512
    assert rule.auto_lr(512, 300) == pytest.approx(5e-4)
    assert rule.auto_lr(128, 30) == pytest.approx(10 * rule.auto_lr(128, 300)) and rule.auto_lr(128, 0.1) == 4e-3
    rates = [rule.auto_lr(128, epochs) for epochs in (1, 3, 10, 30, 100, 300, 1000)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == rates[-2]


def test_ema_window_is_deits_decay_at_300_epochs():
    assert EMA().decay(300_000, 300 * 1251) == pytest.approx(0.99996, abs=1e-7)
    assert EMA().decay(0, 1000) == 0.1


def test_groups_partition_the_parameters_and_only_matrices_decay():
    from minuteloop.nets.net import build_net
    from minuteloop.nets.spec import resolve

    config = compose(["arch=convnext"])
    net = build_net(resolve(config.arch, config.size, 32, 10))
    *decay, rest = parameter_groups(net, 0.05)
    ids = [id(p) for group in (*decay, rest) for p in group["params"]]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in net.parameters()}
    assert [group["name"] for group in (*decay, rest)] == ["matrix", "depthwise", "head", "no_decay"]
    assert {group["weight_decay"] for group in decay} == {0.05} and rest["weight_decay"] == 0
    undecayed = {name for name, p in net.named_parameters() if any(p is q for q in rest["params"])}
    kinds = ("bias", "gamma")
    norms = {f"{name}.weight" for name, m in net.named_modules() if isinstance(m, torch.nn.LayerNorm)}
    assert undecayed == {n for n, _ in net.named_parameters() if n.endswith(kinds)} | norms


def test_a_module_without_matrices_has_groups_too():
    (group,) = parameter_groups(torch.nn.BatchNorm2d(3), 0.05)
    assert (group["name"], len(group["params"]), group["weight_decay"]) == ("no_decay", 2, 0.0)


def test_optimizers_take_the_step_that_torch_takes():
    for ours, theirs in (
        (AdamW(), lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.05)),
        (SGD(), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05)),
    ):
        weights = [torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)) for _ in range(2)]
        optimizers = [ours([{"params": [weights[0]], "weight_decay": 0.05}], 0.1), theirs([weights[1]])]
        for step in range(3):
            for weight, optimizer in zip(weights, optimizers, strict=True):
                weight.grad = torch.sin(weight.detach() + step)
                optimizer.step()
        torch.testing.assert_close(*weights)
