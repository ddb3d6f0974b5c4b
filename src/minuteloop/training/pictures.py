"""The pictures of a run, from what its parts hold once it has ended. Nothing is kept for them during training."""

from __future__ import annotations

import numpy as np
import torch

from minuteloop.data.datamodule import CIFARDataModule
from minuteloop.recipe.augment.random_seed import reseed
from minuteloop.recipe.ingredients import Ingredients
from minuteloop.records.plots.draw import Evaluated, draw
from minuteloop.records.plots.image_grid import FirstBatch
from minuteloop.records.record import Record
from minuteloop.training.build import Parts
from minuteloop.training.classifier import Classifier


def draw_pictures(record: Record, module: Classifier, parts: Parts) -> None:
    """Draw the pictures of an evaluated run into its folder."""
    draw(
        record,
        classes=parts.images.classes,
        schedule=parts.ingredients.schedule,
        evaluated=last_evaluation(module, parts.data),
        first_batch=lambda: replay_first_batch(module, parts.data, parts.ingredients),
    )


def last_evaluation(module: Classifier, data: CIFARDataModule) -> Evaluated | None:
    """Return the test set with its logits where it was read, else the validation split, else None."""
    dataset = data.dataset
    if logits := module.logits.get("test"):
        indices = np.arange(len(dataset.test_labels))
        return Evaluated("test", dataset.test_images, dataset.test_labels, indices, logits)
    if logits := module.logits.get("val"):
        indices = data.val_indices.numpy()
        return Evaluated("validation", dataset.train_images[indices], dataset.train_labels[indices], indices, logits)
    return None


@torch.no_grad()
def replay_first_batch(module: Classifier, data: CIFARDataModule, full: Ingredients) -> FirstBatch:
    """Augment the first batch of the run again: its draws are functions of (seed, step).

    `full` are the ingredients of the module at full strength. Where images are mixed, the original of an image is its
    larger part.
    """
    pipeline = module.pipeline.to(data.device)
    originals, labels = data.first_batch()
    images, targets = data.first_batch(pipeline)
    reseed(module.seed, 0)
    augmented, mixed_targets = pipeline.batch(images, targets, 0)
    reseed(module.seed, 0)
    _, parts = pipeline.batch(images, torch.eye(len(images), device=data.device), 0)  # as if each were its own class
    sources = parts.argmax(1)
    augmented = (augmented * pipeline.std + pipeline.mean).div(255).clamp(0, 1)
    return FirstBatch(
        originals=originals[sources].cpu().numpy(),
        labels=labels[sources].cpu().numpy(),
        images=augmented.cpu().numpy(),
        targets=mixed_targets.cpu().numpy(),
        factors=strength_factors(full, pipeline.at_step(0, originals.shape[-1])[1]),
    )


def strength_factors(full: Ingredients, used: Ingredients) -> dict[str, float | None]:
    """Return the part of its full strength that each batch transform has in `used`, by the name of its class.

    It is 0 for one that is off, and None for one that strength does not scale.
    """
    in_use = {type(transform): transform for transform in used.transforms.values()}
    factors = {}
    for transform in full.transforms.values():
        field = getattr(transform, "strengthens", None)
        value = getattr(in_use.get(type(transform)), field, 0) if field else None
        factors[type(transform).__name__] = value / (getattr(transform, field) or 1) if field else None
    return factors
