"""The papers' recipes and their ingredients against closed forms, timm, torchvision, PIL and published numbers."""

import importlib
import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import timm.loss
import torch
import torchvision.transforms.v2.functional as tv
from timm.layers import BatchNormAct2d
from torch import nn

import minuteloop
from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.config.compose import CONF
from minuteloop.data.cifar import load
from minuteloop.nets.net import Net
from minuteloop.recipe.augment.color_jitter import ColorJitter
from minuteloop.recipe.augment.cutout import Cutout
from minuteloop.recipe.augment.image_ops import blur
from minuteloop.recipe.augment.three_augment import ThreeAugment
from minuteloop.recipe.callbacks.agc import AGC
from minuteloop.recipe.losses import BinaryCrossEntropy
from minuteloop.recipe.optimizers.adamw import SGD
from minuteloop.recipe.optimizers.lamb import LAMB
from minuteloop.recipe.optimizers.lion import Lion
from minuteloop.recipe.optimizers.rmsprop import RMSProp
from minuteloop.recipe.progressive import Progressive
from minuteloop.recipe.regularizers.ghost_batch_norm import GhostBatchNorm
from minuteloop.recipe.schedules import Exponential, StepDecay
from minuteloop.validation import ConfigError, flat

N = 300
QUICK = ("data=sample", "logger=none", "threads=1", "device=cpu", "evaluations=1")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def images() -> torch.Tensor:
    """Real images, uint8 [N,3,32,32]."""
    return torch.from_numpy(load("sample").train_images[:N])


@pytest.fixture
def targets() -> torch.Tensor:
    """One-hot [N,10]."""
    return nn.functional.one_hot(torch.arange(N) % 10, 10).float()


# as printed: reference/specs section 2; `lr at` is the automatic rate for the paper's batch and epochs
PUBLISHED = {
    "classic": {"batch": 256, "epochs": 90, "lr": 0.1, "weight_decay": 1e-4},
    "swin": {"batch": 1024, "epochs": 300, "lr": 1e-3, "weight_decay": 0.05, "clip_grad": 5.0},
    "deit3": {"batch": 2048, "epochs": 800, "lr": 4e-3, "weight_decay": 0.05, "repeats": 3},
    "rsb_a1": {"batch": 2048, "epochs": 600, "lr": 5e-3, "weight_decay": 0.01, "repeats": 3},
    "rsb_a2": {"batch": 2048, "epochs": 300, "lr": 5e-3, "weight_decay": 0.02, "repeats": 3},
    "rsb_a3": {"batch": 2048, "epochs": 100, "lr": 8e-3, "weight_decay": 0.02, "repeats": 1},
    "nfnet": {"batch": 4096, "epochs": 360, "lr": 1.6, "weight_decay": 2e-5},
    "regnet": {"batch": 1024, "epochs": 100, "lr": 0.8, "weight_decay": 5e-5},
    "effnetv2_progressive": {"batch": 4096, "epochs": 350, "lr": 0.256, "weight_decay": 1e-5},
    "myrtle": {"batch": 512, "epochs": 24, "lr": 0.4, "weight_decay": 5e-4},
    # decoupled rates and decays per 1,024 summed losses, turned into those of the mean loss
    "airbench94": {"batch": 1024, "epochs": 9.9, "lr": 11.5 / (1 + 1 / 0.15), "weight_decay": 0.0153 / 11.5},
    "airbench95": {"batch": 1024, "epochs": 15, "lr": 10 / (1 + 1 / 0.15), "weight_decay": 0.0153 / 10},
    "airbench96": {"batch": 1024, "epochs": 37, "lr": 9 / (1 + 1 / 0.15), "weight_decay": 0.012 / 9},
    "airbench94_muon": {"batch": 2000, "epochs": 8, "lr": 0.24, "weight_decay": 2e-6 / 0.67 * (256 / 9) ** 2},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_papers_numbers(name):
    arch = "airbench" if name.startswith("airbench") else "resnet18"
    recipe, paper = compose([f"arch={arch}", f"recipe={name}"]).recipe, PUBLISHED[name]
    rule = instantiate.ingredients(recipe).optimizer.auto_lr
    assert rule(paper["batch"], paper["epochs"]) == pytest.approx(paper["lr"], rel=1e-3)
    for key in paper.keys() & {"weight_decay", "clip_grad", "repeats"}:
        assert getattr(recipe, key) == pytest.approx(paper[key], rel=5e-3), key


REGULARISATION = {
    "swin": {"mixup.alpha": 0.8, "cutmix.alpha": 1, "rand_augment.magnitude": 9, "random_erasing.prob": 0.25},
    "deit3": {"mixup.alpha": 0.8, "cutmix.alpha": 1, "color_jitter.strength": 0.3, "drop_path.rate": 0.05},
    "rsb_a1": {"mixup.alpha": 0.2, "rand_augment.magnitude": 7, "label_smoothing.smoothing": 0.1},
    "rsb_a2": {"mixup.alpha": 0.1, "rand_augment.magnitude": 7, "drop_path.rate": 0.05},
    "rsb_a3": {"mixup.alpha": 0.1, "rand_augment.magnitude": 6},
    "nfnet": {"mixup.alpha": 0.2, "rand_augment.num_ops": 4, "drop_path.rate": 0.25, "agc.factor": 0.01},
    "airbench96": {"crop.padding": 4, "cutout.side": 12, "label_smoothing.smoothing": 0.2, "freeze.share": 3 / 37},
    "airbench94": {"crop.padding": 2, "label_smoothing.smoothing": 0.2, "freeze.share": 3 / 9.9},
    "myrtle": {"crop.padding": 4, "cutout.side": 8},
}


@pytest.mark.parametrize("name", REGULARISATION)
def test_a_recipe_has_the_papers_regularisation(name):
    arch = "airbench" if name.startswith("airbench") else "resnet18"
    recipe = compose([f"arch={arch}", f"recipe={name}"]).recipe
    found = flat(recipe.batch) | flat(recipe.regularizers) | flat(recipe.callbacks)
    assert {key: found[key] for key in REGULARISATION[name]} == pytest.approx(REGULARISATION[name], rel=5e-3)


def test_what_the_tables_leave_out_is_left_out():
    def names(recipe):
        found = compose(["arch=resnet18", f"recipe={recipe}"]).recipe
        return {*found.batch, *found.regularizers, *found.callbacks}

    assert not names("rsb_a3") & {"drop_path", "label_smoothing", "random_erasing", "ema"}
    assert not names("deit3") & {"random_erasing", "label_smoothing", "rand_augment", "ema"}
    assert "ema" not in names("swin") and names("regnet") == names("classic") == {"crop", "flip"}


# --- optimizers ---------------------------------------------------------------------------------------------------


def stepped(optimizer, steps=3, lr=0.01, decay=0.1):
    """A weight and a bias after `steps` steps of gradients 1, 2, ...; and where they began."""
    weight, bias = (nn.Parameter(torch.tensor(values)) for values in ([[3.0, 4.0]], [1.0]))
    begin = weight.detach().clone(), bias.detach().clone()
    groups = [
        {"name": "matrix", "params": [weight], "weight_decay": decay},
        {"name": "no_decay", "params": [bias], "weight_decay": 0.0},
    ]
    made = optimizer(groups, lr)
    for step in range(1, steps + 1):
        weight.grad, bias.grad = torch.tensor([[0.3, -0.4]]) * step, torch.tensor([0.1]) * step
        made.step()
    return begin, weight.detach(), bias.detach()


def test_lamb_moves_a_weight_by_the_share_lr_of_its_length_and_a_bias_as_adam():
    (weight, bias), moved, moved_bias = stepped(LAMB(), steps=1, decay=0.0001)
    assert (moved - weight).norm() == pytest.approx(0.01 * weight.norm().item(), rel=1e-3)  # You 2020, algorithm 2
    assert (moved_bias - bias).abs().item() == pytest.approx(0.01, rel=1e-3)


def test_lion_moves_each_weight_by_the_rate():
    (weight, bias), moved, moved_bias = stepped(Lion(), steps=1)
    torch.testing.assert_close(moved, weight * (1 - 0.01 * 0.1) - 0.01 * torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(moved_bias, bias - 0.01)


def test_rmsprop_is_tensorflows():
    (_, bias), _, moved = stepped(RMSProp(momentum=0.5), steps=2, decay=0.0)
    square, momentum, value = 1.0, 0.0, bias.item()
    for gradient in (0.1, 0.2):
        square = 0.9 * square + 0.1 * gradient**2
        momentum = 0.5 * momentum + 0.01 * gradient / math.sqrt(square + 1e-3)
        value -= momentum
    assert moved.item() == pytest.approx(value, rel=1e-5)


def test_biases_learn_faster_where_the_recipe_says():
    (weight, bias), moved, moved_bias = stepped(SGD(bias_factor=64, nesterov=False, momentum=0), steps=1, decay=0)
    torch.testing.assert_close(moved, weight - 0.01 * torch.tensor([[0.3, -0.4]]))
    torch.testing.assert_close(moved_bias, bias - 0.64 * 0.1)


@pytest.mark.parametrize(
    ("rule", "at"),
    [
        (LAMB(), {(2048, 100): 5e-3, (512, 100): 2.5e-3, (2048, 600): 5e-3, (2048, 50): 1e-2, (2048, 1): 4e-2}),
        (Lion(), {(512, 300): 5e-5, (1024, 300): 1e-4, (512, 1): 1.6e-3}),
        (RMSProp(), {(4096, 350): 0.256, (128, 3): 0.008}),
    ],
)
def test_automatic_learning_rates(rule, at):
    for (batch_size, epochs), lr in at.items():
        assert rule.auto_lr(batch_size, epochs) == pytest.approx(lr)


@pytest.mark.parametrize("rule", [LAMB, Lion])
def test_betas_are_checked(rule):
    with pytest.raises(ConfigError, match="not two shares below 1"):
        rule(betas=[0.9])


def test_agc_cuts_each_filter_but_the_classifiers():
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
    cut = net["conv"].weight.grad.view(3, 2)
    # Brock 2021b, eq. 3: at most 0.01 of each filter's norm, or of 1e-3
    torch.testing.assert_close(cut, torch.tensor([[0.01, 0.0], [0.005, 0.0], [0.0, 1e-5]]))
    assert torch.equal(net["head"].weight.grad, torch.ones(4, 3))


# --- schedules and phases -----------------------------------------------------------------------------------------


def test_step_decay_is_that_of_90_epochs():
    rate = StepDecay()
    assert [rate(epoch / 90, 90) for epoch in (1, 29, 31, 59, 61, 90)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    with pytest.raises(ConfigError, match="not shares of the run"):
        StepDecay(at=[30])


def test_exponential_is_that_of_350_epochs():
    rate = Exponential()
    assert rate(5 / 350, 350) == pytest.approx(0.0118 ** (5 / 350)) and rate(2.5 / 350, 350) == pytest.approx(0.5)
    for epoch in (24, 120, 350):
        assert rate(epoch / 350, 350) == pytest.approx(0.97 ** (epoch / 2.4), rel=0.01)


def test_sides_and_strength_rise_together():
    assert [Progressive().phase(number, 32) for number in range(4)] == [
        (16, pytest.approx(1 / 3, abs=1e-5)),
        (20, pytest.approx(5 / 9, abs=1e-5)),
        (28, pytest.approx(7 / 9, abs=1e-5)),
        (32, 1),
    ]
    published = Progressive(smallest=128 / 300, multiple=1)  # Tan 2021, table 6: 128 to 300 pixels
    assert [published.phase(number, 300)[0] for number in range(4)] == [128, 185, 243, 300]
    assert Progressive(phases=1).phase(0, 32) == (32, 1)


# --- losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [None, 0.2])
def test_binary_cross_entropy_is_timms(threshold):
    logits, targets = torch.randn(8, 10), torch.rand(8, 10)
    theirs = timm.loss.BinaryCrossEntropy(smoothing=0, target_threshold=threshold)(logits, targets)
    torch.testing.assert_close(BinaryCrossEntropy(threshold=threshold)(logits, targets), theirs)


# --- images -------------------------------------------------------------------------------------------------------


def test_blur_is_a_gaussian(images):
    images = images[:8]
    for sigma in (0.1, 0.5, 1.0, 2.0):
        ours = blur(images, torch.full((8,), sigma), reach=6).float()
        theirs = tv.gaussian_blur(images.float(), kernel_size=13, sigma=sigma).round()
        inside = (ours - theirs)[:, :, 6:-6, 6:-6].abs()
        assert inside.max() <= 1 and (inside > 0).float().mean() < 0.01
    assert torch.equal(blur(images, torch.full((8,), 0.1), reach=6), images)


def test_three_augment_does_one_of_three_to_each_image(images, targets):
    changed, same = ThreeAugment(least_sigma=1.0)(images, targets)
    grey = (changed == changed[:, :1]).flatten(1).all(1) & (images != changed).flatten(1).any(1)
    expected = torch.where(images < 128, images, 255 - images)
    solarized = (changed == expected).flatten(1).all(1)
    assert grey.sum() >= 95 and solarized.sum() >= 95 and (grey | solarized).sum() < 206  # 100 of each of 300
    assert torch.equal(same, targets)
    with pytest.raises(ConfigError, match="above most_sigma"):
        ThreeAugment(least_sigma=3.0)


def test_color_jitter_is_torchvisions_in_some_order(images, targets):
    images = images[:1]
    torch.manual_seed(4)
    changed = ColorJitter(strength=0.3)(images, targets[:1])[0]
    torch.manual_seed(4)
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    expected = images
    for place in torch.randperm(3).tolist():
        expected = adjust[place](expected, torch.empty(1).uniform_(0.7, 1.3).item())
    assert (changed.int() - expected.int()).abs().max() <= 2
    assert (changed != images).any()


def test_cutout_blanks_a_square_within_each_image(images, targets):
    kept, _ = Cutout(length=8)(torch.ones(N, 3, 32, 32), targets)
    assert (kept.sum((2, 3)) == 32 * 32 - 64).all()
    rows = (kept[:, 0].min(2).values == 0).float().argmax(1)
    assert rows.min() == 0 and rows.max() == 24  # evenly anywhere
    assert rows.float().mean() == pytest.approx(12, abs=1.3)


def test_ghost_batch_norm_norms_each_group_by_itself():
    net, x = nn.Sequential(nn.BatchNorm2d(3)), torch.randn(64, 3, 4, 4) * torch.linspace(1, 5, 64)[:, None, None, None]
    plain = nn.BatchNorm2d(3)
    GhostBatchNorm(images=16)(net)
    GhostBatchNorm(images=16)(net)  # a calibration sets it too
    expected = torch.cat([plain(group) for group in x.split(16)])
    torch.testing.assert_close(net.train()(x), expected)
    assert net[0].momentum == 0.1 and not net[0].running_var.equal(torch.ones(3))
    steady = nn.BatchNorm2d(3)
    steady(x[:16].repeat(4, 1, 1, 1))
    again = nn.Sequential(nn.BatchNorm2d(3))
    GhostBatchNorm(images=16)(again)
    again(x[:16].repeat(4, 1, 1, 1))
    torch.testing.assert_close(again[0].running_mean, steady.running_mean)  # four like groups count as one batch
    assert torch.equal(again.eval()(x), nn.functional.batch_norm(x, again[0].running_mean, again[0].running_var))
    with pytest.raises(ConfigError, match="no batch norm"):
        GhostBatchNorm()(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="BatchNormAct2d cannot be split"):
        GhostBatchNorm()(nn.Sequential(nn.BatchNorm2d(2), BatchNormAct2d(2)))


# --- whole recipes ------------------------------------------------------------------------------------------------

MADE_FOR = {"myrtle": "resnet9", "sprint": "airbench", "airbench94_muon": "airbench", "airbench94": "airbench"}


@pytest.mark.parametrize("file", sorted((CONF / "recipe").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_trains_at_full_strength(file, tmp_path):
    arch = MADE_FOR.get(file.stem) or (file.stem if file.stem.startswith("airbench") else "resnet18")
    words = [f"arch={arch}", f"recipe={file.stem}", "size=nano", "recipe.strength=1", "recipe.batch_size=60"]
    record = minuteloop.run([*words, *QUICK, "budget=8steps", f"hydra.run.dir={tmp_path / 'run'}"])
    assert record["status"] == "finished" and record["plan"]["steps"] == 8
    assert math.isfinite(record["metrics"]["test/loss"]) and record["plan"]["strength"] == 1


def test_a_progressive_run_trains_on_larger_and_larger_images(tmp_path, monkeypatch):
    seen, rates = [], []
    entered, set_drop_path = Net._enter, Net.set_drop_path

    def enter(net, x):
        if net.training and x.device.type == "cpu":
            seen.append((x.shape[2], net.head.dropout))
        return entered(net, x)

    monkeypatch.setattr(Net, "_enter", enter)
    monkeypatch.setattr(Net, "set_drop_path", lambda net, rate: rates.append(rate) or set_drop_path(net, rate))
    words = ["arch=resnet18", "recipe=effnetv2_progressive", "size=nano", "recipe.strength=1", "budget=8steps"]
    minuteloop.run([*words, *QUICK, f"hydra.run.dir={tmp_path / 'run'}"])
    assert [side for side, _ in seen] == [16, 16, 20, 20, 28, 28, 32, 32]
    assert [rate for _, rate in seen[::2]] == pytest.approx([0.1, 0.3 * 5 / 9, 0.3 * 7 / 9, 0.3], abs=1e-4)
    assert rates == pytest.approx([0.2 / 3, 0.2 * 5 / 9, 0.2 * 7 / 9, 0.2], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "shares", "rates"),
    [
        (["arch=resnet18", "recipe=effnetv2_progressive"], [0.25] * 4, [100.0, 50.0, 25.0, 20.0]),
        (["arch=airbench", "recipe=airbench94"], [0.303, 0.697], [20.0, 25.0]),
    ],
)
def test_the_rate_of_a_run_is_that_of_its_phases_together(tmp_path, monkeypatch, words, shares, rates):
    measured = iter(rates * 2)  # steps/s of the phases, in both looks
    run = importlib.import_module("minuteloop.training.run")  # minuteloop.training.run is the function
    monkeypatch.setattr(
        run, "measure_rate", lambda *_: SimpleNamespace(steps_per_second=next(measured), first_seconds=0)
    )
    steps = []

    def fit(record, *_):
        steps.append(record.content["plan"]["steps"])
        raise RuntimeError("planned")

    monkeypatch.setattr(run, "_fit", fit)
    with pytest.raises(RuntimeError, match="planned"):
        minuteloop.run([*words, "size=nano", "budget=10s", *QUICK, f"hydra.run.dir={tmp_path / 'run'}"])
    seconds = steps[0] * sum(share / rate for share, rate in zip(shares, rates, strict=True))
    assert seconds == pytest.approx(10, abs=0.05)


def test_a_net_that_cannot_see_small_images_is_refused_before_it_trains(tmp_path):
    words = ["arch=timm", "arch.name=test_vit", "recipe=plain", "ingredient=[progressive]", "budget=2steps"]
    with pytest.raises(ConfigError, match=r"recipe.progressive: the net does not run on 20x20 images .*=null"):
        minuteloop.run([*words, *QUICK, f"hydra.run.dir={tmp_path / 'run'}"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["arch=vgg16", "recipe=plain", "ingredient=[drop_path]"], "drop path needs blocks with a shortcut"),
        (["arch=convnext", "recipe=plain", "ingredient=[ghost_batch_norm]"], "the net has no batch norm"),
        (["arch=timm", "arch.name=test_resnet", "recipe=plain", "ingredient=[dropout]"], "arch.timm.drop_rate=0.2"),
        (["arch=resnet18", "recipe=airbench94"], "no parameter has such a name; ~recipe.callbacks.freeze"),
        (["arch=resnet18", "ingredient=[freeze]", "recipe.callbacks.freeze.pattern='*'"], "nothing would be left"),
    ],
)
def test_what_a_net_cannot_do_is_told(words, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        minuteloop.run([*words, *QUICK, "recipe.strength=1", "budget=2steps", f"hydra.run.dir={tmp_path / 'run'}"])
