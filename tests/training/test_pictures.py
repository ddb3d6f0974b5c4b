"""What the pictures of a run show: the batch that it really trained on, and the split that it evaluated."""

import numpy as np
import pytest
import torch

import minuteloop
from minuteloop.config import instantiate
from minuteloop.config.compose import compose
from minuteloop.data.cifar import load
from minuteloop.recipe.augment.pipeline import AugmentPipeline
from minuteloop.training import pictures
from minuteloop.training.build import build
from minuteloop.training.pictures import last_evaluation, strength_factors

SMALLEST = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "recipe.batch_size=32"]
QUICK = [*SMALLEST, "data=sample", "logger=none", "threads=1", "evaluations=1", "hydra.run.dir=mine"]


@pytest.mark.parametrize("recipe", ["deit", "effnetv2_progressive", "airbench94", "minute"])
def test_replayed_first_batch_is_the_one_that_the_run_trained_on(cwd, monkeypatch, recipe):
    more = ["~recipe.callbacks.freeze"] if recipe == "airbench94" else []
    seen, drawn = [], []
    batch = AugmentPipeline.batch
    monkeypatch.setattr(AugmentPipeline, "batch", lambda *arguments: seen.append(batch(*arguments)) or seen[-1])
    monkeypatch.setattr(pictures, "draw", lambda *_, first_batch, **__: drawn.append(first_batch()))
    minuteloop.run([*QUICK, f"recipe={recipe}", "recipe.strength=1", "budget=3steps", *more])
    images, targets = seen[0]
    dataset = load("sample")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (dataset.mean, dataset.std))
    np.testing.assert_allclose(drawn[0].images, (images * std + mean).clip(0, 1).numpy(), atol=1e-5)
    assert (drawn[0].targets == targets.numpy()).all()


def test_originals_are_the_larger_parts_of_mixed_images(cwd, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "draw", lambda *_, first_batch, **__: drawn.append(first_batch()))
    mixing = ["recipe=deit", "recipe.strength=1", "~recipe.batch.rand_augment", "~recipe.batch.random_erasing"]
    plain = ["~recipe.batch.crop", "~recipe.batch.flip", "~recipe.batch.cutmix"]
    minuteloop.run([*QUICK, *mixing, *plain, "budget=2steps"])
    (first,) = drawn
    dataset = load("sample")
    stored = {image.tobytes(): label for image, label in zip(dataset.train_images, dataset.train_labels, strict=True)}
    assert [stored[image.tobytes()] for image in first.originals] == first.labels.tolist()
    smoothed = (first.targets - 0.01) / 0.9
    mixed = 0
    for original, label, image, target in zip(first.originals, first.labels, first.images, smoothed, strict=True):
        assert target[label] >= 0.5 - 1e-6
        if 0.5 < target[label] < 0.95:  # with an image of another class: what is left of it is stored too
            rest = (255 * image - target[label] * original) / (1 - target[label])
            other = stored[np.round(rest).clip(0, 255).astype(np.uint8).tobytes()]
            assert target[other] == pytest.approx(1 - target[label], abs=1e-5)
            mixed += 1
    assert mixed > 5


def test_strength_factors_name_what_is_scaled_and_off():
    full = instantiate.ingredients(compose(["recipe=deit"]).recipe)
    names = ["Crop", "Flip", "RandAugment", "RandomErasing", "LabelSmoothing", "Mixup", "CutMix"]
    assert list(strength_factors(full, full)) == names
    assert strength_factors(full, full.at_strength(0.45))["Mixup"] == pytest.approx(0.45)
    off = strength_factors(full, full.at_strength(0.0))
    assert [off[name] for name in names] == [None, None, 0, 0, 0, 0, 0]


def test_pictures_are_of_the_test_set_where_it_was_read_else_of_the_validation_split():
    parts = build(compose([*QUICK[:-1], "data.holdout=100", "budget=2steps"]))
    module = parts.classifier(parts.plan())
    assert last_evaluation(module, parts.data) is None
    module.logits["val"] = [torch.zeros(100, 10)]
    evaluated = last_evaluation(module, parts.data)
    assert evaluated.split == "validation" and evaluated.indices.tolist() == parts.data.val_indices.tolist()
    assert (evaluated.images == parts.images.train_images[evaluated.indices]).all()
    assert (evaluated.labels == parts.images.train_labels[evaluated.indices]).all()
    module.logits["test"] = [torch.zeros(1000, 10)]
    evaluated = last_evaluation(module, parts.data)
    assert evaluated.split == "test" and (evaluated.labels == parts.images.test_labels).all()


def test_kept_logits_give_the_accuracies_of_the_record(cwd, monkeypatch):
    kept = []
    monkeypatch.setattr(pictures, "draw", lambda *_, evaluated, **__: kept.append(evaluated))
    monkeypatch.setattr(
        pictures, "last_evaluation", lambda module, data: kept.append(module) or last_evaluation(module, data)
    )
    record = minuteloop.run([*QUICK, "data.holdout=200", "budget=4steps"])
    module, evaluated = kept
    assert evaluated.split == "test"
    assert (evaluated.probabilities().argmax(1) == evaluated.labels).mean() == pytest.approx(
        record["metrics"]["test/acc"]
    )
    assert sum(map(len, module.logits["val"])) == 200, "of the last evaluation only"
