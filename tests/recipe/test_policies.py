"""RandAugment and TrivialAugment: distributions of their draws, and behavior on any batch."""

import math
import random
from collections import Counter
from functools import partial

import pytest
import torch

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.data.cifar import load
from minuteloop.recipe.augment.ops import rand_augment_ops, trivial_augment_ops
from minuteloop.recipe.augment.rand_augment import RandAugment
from minuteloop.recipe.augment.trivial_augment import TrivialAugment
from minuteloop.validation import ConfigError, check

SAMPLE = torch.from_numpy(load("sample").train_images)  # real CIFAR-10 images, uint8 [2000,3,32,32]


def is_close(count: int, n: int, prob: float) -> bool:
    """Return whether `count` of `n` is within 4.5 binomial stds of its mean."""
    return abs(count - n * prob) <= 4.5 * math.sqrt(n * prob * (1 - prob))


def record_calls(monkeypatch, policy, module, images, rounds: int) -> tuple:
    """Return how often `policy` applied each operation in `rounds`, and the levels, signs and modes it drew."""
    counts, levels, signs, modes = Counter(), [], [], Counter()

    def note(name, subset, signed):
        is_image = subset.flatten(1).any(1).bool()  # a blank holds the last image, which is black here
        counts[name] += is_image.sum().item()
        levels.append(signed[is_image].abs())
        signs.append((signed[is_image] > 0).float())
        return is_image.sum().item()

    def tone(name, subset, level, signed):
        assert torch.equal(level, signed.abs())
        note(name, subset, signed)
        return subset

    def warp(name, subset, signed, mode, fill):
        modes[mode] += note(name, subset, signed)
        return subset

    for kind, call in (("TONES", tone), ("WARPS", warp)):
        monkeypatch.setattr(module, kind, {name: partial(call, name) for name in getattr(module, kind)})
    for _ in range(rounds):
        assert torch.equal(policy(images, None)[0], images)
    return counts, torch.cat(levels), torch.cat(signs), modes


def images_with_black_last(n: int) -> torch.Tensor:
    images = SAMPLE[:n].clone()
    images[-1] = 0
    return images


def test_rand_augment_draws_like_timm(monkeypatch):
    """Operations, their number, levels, signs and interpolations follow the distributions of timm's draws."""
    images, rounds = images_with_black_last(97), 300
    counts, levels, signs, modes = record_calls(monkeypatch, RandAugment(), rand_augment_ops, images, rounds)
    n = 96 * rounds * 2  # two layers
    assert len(counts) == 15
    for name, count in counts.items():
        assert is_close(count, n, 0.5 / 15), name
    assert is_close(sum(counts.values()), n, 0.5)
    warped = modes["bilinear"] + modes["bicubic"]
    assert is_close(modes["bilinear"], warped, 0.5) and is_close(warped, n, 0.5 / 3)
    assert is_close(int(signs.sum()), len(signs), 0.5)
    gauss = torch.tensor([max(0.0, min(random.gauss(9, 0.5), 10.0)) for _ in range(len(levels))])
    for quantile in (0.01, 0.25, 0.5, 0.75, 0.99):
        assert levels.quantile(quantile).item() == pytest.approx(gauss.quantile(quantile).item(), abs=0.05)
    assert levels.max() == 10 and (levels == 10).float().mean().item() == pytest.approx(0.0228, abs=0.004)


def test_the_two_layers_of_rand_augment_are_independent():
    """The fraction of images that two layers leave unchanged is the square of that of one layer."""
    images = SAMPLE[:500]

    def unchanged(policy):
        means = [(policy(images, None)[0] == images).flatten(1).all(1).float().mean().item() for _ in range(8)]
        return sum(means) / len(means)

    assert unchanged(RandAugment(num_ops=2)) == pytest.approx(unchanged(RandAugment(num_ops=1)) ** 2, abs=0.02)


def test_trivial_augment_draws_one_of_14_operations_evenly(monkeypatch):
    images, rounds = images_with_black_last(57), 400
    counts, magnitudes, signs, modes = record_calls(monkeypatch, TrivialAugment(), trivial_augment_ops, images, rounds)
    n = 56 * rounds
    assert len(counts) == 13  # the fourteenth is the identity
    for name, count in counts.items():
        assert is_close(count, n, 1 / 14), name
    assert set(modes) == {"nearest"} and is_close(modes["nearest"], n, 5 / 14)
    bins = Counter(magnitudes.int().tolist())
    assert sorted(bins) == list(range(31)) and all(is_close(count, len(magnitudes), 1 / 31) for count in bins.values())
    assert is_close(int(signs.sum()), len(signs), 0.5 * 30 / 31)  # magnitude 0 has no sign


def test_strength_multiplies_the_probability():
    ingredients = instantiate.ingredients(compose(["recipe=deit"]).recipe)
    assert [type(transform).__name__ for transform in ingredients.at("pixels")] == ["Crop", "Flip", "RandAugment"]
    assert RandAugment() in ingredients.at_strength(1.0).transforms.values()
    assert RandAugment(prob=0.25) in ingredients.at_strength(0.5).transforms.values()
    trivial = instantiate.ingredients(compose(["recipe=plain", "ingredient=[trivial_augment]"]).recipe)
    assert TrivialAugment(prob=0.5) in trivial.at_strength(0.5).transforms.values()
    assert TrivialAugment() not in trivial.at_strength(0.0).transforms.values()


@pytest.mark.parametrize("policy", [RandAugment(), RandAugment(prob=1.0, num_ops=3), TrivialAugment()])
@pytest.mark.parametrize(("n", "size"), [(1, 32), (2, 24), (17, 32), (127, 24), (512, 32)])
def test_results_repeat_with_the_seed_for_any_batch_and_image_size(policy, n, size):
    images = SAMPLE[:n, :, :size, :size]
    before = images.clone()

    def augmented(seed):
        torch.manual_seed(seed)
        return policy(images, None)[0]

    changed = augmented(1)
    assert changed.shape == images.shape and changed.dtype == torch.uint8
    assert torch.equal(images, before)
    assert torch.equal(augmented(1), changed)
    if n > 100:
        assert not torch.equal(augmented(2), changed)


def test_copies_of_one_image_come_out_different():
    images = SAMPLE[5:6].expand(256, -1, -1, -1)
    # a few operations, such as invert and equalize, have no argument
    assert len(RandAugment(prob=1.0)(images, None)[0].flatten(1).unique(dim=0)) > 235
    bicubic = RandAugment(prob=1.0, interpolation="bicubic")(images, None)[0]
    assert len(bicubic.flatten(1).unique(dim=0)) > 235


def test_prob_0_changes_nothing():
    for policy in (RandAugment(prob=0.0), TrivialAugment(prob=0.0)):
        assert torch.equal(policy(SAMPLE[:30], None)[0], SAMPLE[:30])


def test_invalid_fill_and_interpolation_raise():
    for cls in (RandAugment, TrivialAugment):
        with pytest.raises(ConfigError, match=r"fill=\[1, 2\]: must be three numbers in \[0, 255\]"):
            check(cls(fill=[1, 2]))
    with pytest.raises(ConfigError, match=r"rand_augment.fill=\[1, 2\]: must be three numbers in \[0, 255\]"):
        compose(["recipe.batch.rand_augment.fill=[1,2]"])
    with pytest.raises(ConfigError, match="interpolation=cubic: must be one of random, bilinear, bicubic"):
        compose(["recipe.batch.rand_augment.interpolation=cubic"])
