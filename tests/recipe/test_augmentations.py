"""Each augmentation against closed forms, torchvision, timm's distributions and real images."""

import functools
import math

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import nn

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.recipe.augment.alternating_flip import AlternatingFlip
from minuteloop.recipe.augment.color_jitter import ColorJitter
from minuteloop.recipe.augment.crop import Crop
from minuteloop.recipe.augment.cutmix import CutMix
from minuteloop.recipe.augment.cutout import Cutout
from minuteloop.recipe.augment.flip import Flip
from minuteloop.recipe.augment.mixup import Mixup
from minuteloop.recipe.augment.random_erasing import RandomErasing
from minuteloop.recipe.augment.three_augment import ThreeAugment
from minuteloop.validation import ConfigError

N = 512


@pytest.fixture
def images(sample) -> torch.Tensor:
    """Real images, uint8 [N,3,32,32]."""
    return sample[:N]


@pytest.fixture
def targets() -> torch.Tensor:
    """One-hot targets [N,10]."""
    return nn.functional.one_hot(torch.arange(N) % 10, 10).float()


DEIT = ("crop", "flip", "rand_augment", "random_erasing", "label_smoothing", "mixup", "cutmix")


@functools.cache
def deit_transforms() -> dict:
    return instantiate.ingredients(compose(["recipe=deit"]).recipe).transforms


def test_all_of_deits_transforms_are_tested():
    assert deit_transforms().keys() == set(DEIT)


@pytest.mark.parametrize("name", DEIT)
def test_transform_keeps_shapes_and_dtypes_and_repeats_with_the_seed(name, images, targets):
    transform = deit_transforms()[name]
    if transform.stage != "pixels":
        images = images.float()

    def transformed():
        torch.manual_seed(3)
        return (images, transform(targets)) if transform.stage == "targets" else transform(images, targets)

    changed, soft = transformed()
    assert changed.shape == images.shape and changed.dtype == images.dtype
    assert soft.shape == targets.shape
    torch.testing.assert_close(soft.sum(1), torch.ones(N))
    assert not (torch.equal(changed, images) and torch.equal(soft, targets))
    for first, second in zip((changed, soft), transformed(), strict=True):
        assert torch.equal(first, second)


# --- geometry -----------------------------------------------------------------------------------------------------


def test_flip_mirrors_about_half_of_the_images(images, targets):
    changed, _ = Flip()(images, targets)
    is_mirrored = (changed == images.flip(3)).flatten(1).all(1)
    is_unchanged = (changed == images).flatten(1).all(1)
    assert (is_mirrored | is_unchanged).all()
    assert abs(is_mirrored.float().mean() - 0.5) < 4 * math.sqrt(0.25 / N)


def test_alternating_flip_shows_both_orientations_in_two_consecutive_epochs(images):
    images = images[:64]
    first, second, third, fourth = (AlternatingFlip()(images, epoch, 0) for epoch in range(4))
    for image, one, two in zip(images, first, second, strict=True):
        assert torch.equal(one, two.flip(2)) and (torch.equal(one, image) or torch.equal(two, image))
    assert torch.equal(third, first) and torch.equal(fourth, second)


def test_alternating_flip_starts_at_random_and_differs_between_seeds(sample):
    starts = [(AlternatingFlip()(sample, 0, seed) != sample).flatten(1).any(1) for seed in range(4)]
    for start in starts:
        assert start.float().mean().item() == pytest.approx(0.5, abs=0.05)  # 2,000 images, 4.5 stds
    for one in range(4):
        for other in range(one):
            assert (starts[one] == starts[other]).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_crop_is_a_window_of_the_padded_image_and_all_positions_occur(images, targets):
    changed, _ = Crop(padding=4)(images, targets)
    padded = nn.functional.pad(images, [4] * 4)
    positions = set()
    for before, after in zip(padded, changed, strict=True):
        windows = before.unfold(1, 32, 1).unfold(2, 32, 1)  # [3,9,9,32,32]
        matches = (windows == after[:, None, None]).flatten(3).all(3).all(0).nonzero().tolist()
        assert matches
        positions.add(tuple(matches[0]))
    assert len(positions) == 81


def test_reflecting_crop_is_a_window_of_the_reflected_image(images):
    images = images[:64]
    padded = nn.functional.pad(images.float(), [2] * 4, mode="reflect").to(torch.uint8)
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # [N,3,5,5,32,32]
    changed, _ = Crop(padding=2, fill="reflect")(images, None)
    positions = set()
    for image, candidates in zip(changed, windows, strict=True):
        matches = [(y, x) for y in range(5) for x in range(5) if torch.equal(image, candidates[:, y, x])]
        assert matches
        positions.add(matches[0])
    assert len(positions) > 15


# --- tone ---------------------------------------------------------------------------------------------------------


def test_three_augment_applies_one_of_three_operations_to_each_image(images, targets):
    images, targets = images[:300], targets[:300]
    changed, same = ThreeAugment(least_sigma=1.0)(images, targets)
    gray = (changed == changed[:, :1]).flatten(1).all(1) & (images != changed).flatten(1).any(1)
    expected = torch.where(images < 128, images, 255 - images)
    solarized = (changed == expected).flatten(1).all(1)
    assert gray.sum() >= 95 and solarized.sum() >= 95 and (gray | solarized).sum() < 206  # 100 of each
    assert torch.equal(same, targets)
    with pytest.raises(ConfigError, match=r"least_sigma=3.0: must be <= most_sigma \(2.0\)"):
        ThreeAugment(least_sigma=3.0)


def test_color_jitter_is_torchvisions_in_some_order(images, targets):
    images = images[:1]
    torch.manual_seed(4)
    changed = ColorJitter(strength=0.3)(images, targets[:1])[0]
    torch.manual_seed(4)
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    expected = images
    for index in torch.randperm(3).tolist():
        expected = adjust[index](expected, torch.empty(1).uniform_(0.7, 1.3).item())
    assert (changed.int() - expected.int()).abs().max() <= 2
    assert (changed != images).any()


# --- erasing ------------------------------------------------------------------------------------------------------


def test_cutout_blanks_one_square_within_each_image():
    changed, _ = Cutout(length=8)(torch.ones(300, 3, 32, 32), None)
    assert (changed.sum((2, 3)) == 32 * 32 - 64).all()
    rows = (changed[:, 0].min(2).values == 0).float().argmax(1)
    assert rows.min() == 0 and rows.max() == 24  # all positions are equally likely
    assert rows.float().mean() == pytest.approx(12, abs=1.3)


def test_random_erasing_has_timms_areas():
    """The fraction of erased images and the erased areas match timm's RandomErasing on as many images."""
    from timm.data.random_erasing import RandomErasing as TimmRandomErasing

    blank = torch.full((4096, 3, 32, 32), 7.0)
    ours, _ = RandomErasing(prob=0.5)(blank, None)
    theirs = TimmRandomErasing(probability=0.5, mode="pixel", device="cpu")(blank.clone())
    area = [(changed != 7).any(1).float().mean((1, 2)) for changed in (ours, theirs)]
    assert (area[0] > 0).float().mean().item() == pytest.approx((area[1] > 0).float().mean().item(), abs=0.04)
    for quantile in (0.25, 0.5, 0.75):
        a, b = (values[values > 0].quantile(quantile).item() for values in area)
        assert a == pytest.approx(b, abs=0.02)
    noise = ours[(ours != 7)]
    assert noise.mean().item() == pytest.approx(0, abs=0.01) and noise.std().item() == pytest.approx(1, abs=0.01)
    with pytest.raises(ConfigError, match=r"min_area=0.5: must be <= max_area \(0.3\)"):
        RandomErasing(min_area=0.5, max_area=0.3)


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
@pytest.mark.parametrize("fields", [{"max_area": 0.02}, {"min_area": 1 / 3}, {"min_area": 0.9, "max_area": 1.0}, {}])
def test_every_erased_pixel_has_its_own_draw(shape, fields):
    erased, _ = RandomErasing(prob=1.0, **fields)(torch.full((512, 3, *shape), 7.0), None)
    noise = [image[image != 7] for image in erased]
    assert sum(map(len, noise)) > 512 * 30
    repeated = sum(len(values) - len(values.unique()) for values in noise)
    assert repeated < 0.001 * sum(map(len, noise))  # float32 draws rarely coincide


# --- mixing -------------------------------------------------------------------------------------------------------


def test_mixup_blends_with_the_neighbor_by_the_targets_weight(images, targets):
    images = images.float()
    mixed, soft = Mixup(alpha=0.8)(images, targets)
    weight = (soft * targets).sum(1)  # neighbors differ in class here
    expected = weight[:, None, None, None] * images + (1 - weight)[:, None, None, None] * images.roll(1, 0)
    torch.testing.assert_close(mixed, expected, atol=1e-3, rtol=1e-4)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1))
    assert weight.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(1 / (4 * 2.6) / N))
    assert weight.var().item() == pytest.approx(1 / (4 * 2.6), rel=0.15)


def test_cutmix_pastes_a_box_with_the_area_of_the_targets_weight(images, targets):
    images = images.float()
    mixed, soft = CutMix()(images, targets)
    weight = (soft * targets).sum(1)
    neighbor = images.roll(1, 0)
    is_pasted = (mixed != images).any(1)  # [N,32,32]
    assert torch.equal(torch.where(is_pasted[:, None], neighbor, images), mixed)
    for index in range(64):
        rows, columns = is_pasted[index].any(1).nonzero(), is_pasted[index].any(0).nonzero()
        if len(rows):
            box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert 1 - weight[index].item() == pytest.approx(box.item() / 1024, abs=0.02)


def test_prob_is_the_fraction_of_mixed_samples(images, targets):
    images = images.float()
    for transform in (Mixup(prob=0.3), CutMix(prob=0.3)):
        mixed, soft = transform(images, targets)
        is_unchanged = (mixed == images).flatten(1).all(1)
        assert torch.equal(soft[is_unchanged], targets[is_unchanged])
        assert is_unchanged.float().mean().item() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / N) + 0.02)
