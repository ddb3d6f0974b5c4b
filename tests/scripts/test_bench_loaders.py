"""benches/loaders.py: the peers' data paths deliver what the recipe lists."""

import random

import pytest
import torch
from PIL import Image

from minuteloop import compose
from minuteloop.data.cifar import load
from minuteloop.validation import ConfigError

pytest.importorskip("torchvision")
bench_loaders = pytest.importorskip("benches.loaders")


def peers(*overrides):
    images, recipe = load("sample"), compose(["data=sample", "recipe.batch_size=200", *overrides]).recipe
    loaders = bench_loaders.Loaders(recipe, images, torch.arange(2000), torch.device("cpu"), workers=0)
    return images, [loaders.torchvision(), loaders.timm()]


def test_loaders_give_the_normalized_images_without_augmentation():
    images, loaders = peers("recipe=plain", "~recipe.batch.crop", "~recipe.batch.flip")
    pixels = torch.from_numpy(images.train_images) / 255
    expected = (pixels - torch.tensor(images.mean).view(3, 1, 1)) / torch.tensor(images.std).view(3, 1, 1)
    for batches in loaders:
        inputs, targets = zip(*(next(batches) for _ in range(10)), strict=True)
        assert torch.cat(targets).sum(0).tolist() == pytest.approx([200.0] * 10)
        sums = torch.cat(inputs).double().flatten(1).sum(1).sort().values
        torch.testing.assert_close(sums, expected.double().flatten(1).sum(1).sort().values, atol=2e-3, rtol=0)


def test_loaders_mix_and_smooth_as_the_recipe_lists():
    _, loaders = peers("recipe=deit")
    for batches in loaders:
        inputs, targets = next(batches)
        assert inputs.shape == (200, 3, 32, 32) and inputs.dtype == torch.float32
        torch.testing.assert_close(targets.sum(1), torch.ones(200))
        assert targets.min() == pytest.approx(0.01, abs=1e-6), "label smoothing of 0.1 over 10 classes"
        assert (targets > 0.011).sum(1).max() == 2, "two classes mixed"


def test_timm_policy_draws_no_magnitude_that_pillow_rejects():
    random.seed(0)
    images = load("sample").train_images.transpose(0, 2, 3, 1)
    inputs = [Image.fromarray(image) for image in images]
    transform = bench_loaders.timm_rand_augment()
    changed = sum(transform(image) is not image for image in inputs)  # without mmax9 it raises within 1,300 images
    assert changed > 1000, "two operations, each with probability 0.5"


def test_an_ingredient_that_the_peers_lack_is_rejected():
    target = "{_target_: minuteloop.recipe.augment.flip.Flip}"
    with pytest.raises(ConfigError, match=r"recipe\.batch\.mirror: must be one of crop, flip"):
        peers(f"+recipe.batch.mirror={target}")
