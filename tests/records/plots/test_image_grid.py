"""Grids of images: errors, and the first training batch."""

import numpy as np
import pytest

from minuteloop.data.cifar import load
from minuteloop.data.cifar_files import CIFAR10
from minuteloop.records.plots.image_grid import (
    IMAGE,
    INNER_GAP,
    FirstBatch,
    confident_errors,
    enlarge,
    largest_shares,
    plot_misclassified,
    plot_training_batch,
)


def below_title(figure):
    """Return the grid of images, and the texts below the images."""
    texts = [text.get_text() for text in figure.texts]
    subtitle = next(i for i, text in enumerate(texts) if text.endswith((".", "parts."))) + 1
    return figure.images[0].get_array()[..., :3], texts[subtitle:]


def errors_of_one_pair(count=1000):
    """Return labels 0 and probabilities [count,10] of a net that is right everywhere."""
    probabilities = np.full((count, 10), 0.05)
    probabilities[:, 0] = 0.55
    return np.zeros(count, int), probabilities


def test_misclassified_images_are_sorted_by_confidence_with_both_probabilities_and_their_index():
    images = load("sample").test_images
    labels, probabilities = errors_of_one_pair()
    for index, (prediction, confidence) in {7: (3, 0.6), 400: (1, 0.91), 999: (9, 0.82)}.items():
        probabilities[index] = (1 - confidence) / 9
        probabilities[index, prediction] = confidence
    figure = plot_misclassified(
        images, labels, probabilities, CIFAR10.classes, split="test", indices=np.arange(1000) + 5
    )
    grid, texts = below_title(figure)
    assert texts[:9] == [
        *("✗ automobile 91 %", "✓ airplane 1 %", "#405"),
        *("✗ truck 82 %", "✓ airplane 2 %", "#1004"),
        *("✗ cat 60 %", "✓ airplane 4 %", "#12"),
    ]
    assert figure.texts[0].get_text() == "Test set: the most confident of 3 errors on 1,000 images"
    assert "index in the test set" in figure.texts[1].get_text()
    assert (grid[:IMAGE, :IMAGE][::5, ::5] == images[400].transpose(1, 2, 0)).all()


def test_a_pair_of_classes_has_at_most_three_of_the_errors():
    labels, probabilities = errors_of_one_pair(100)
    labels[:] = 1  # all are taken for class 0
    probabilities[:, 0] = np.linspace(0.5, 0.9, 100)
    labels[10], labels[20] = 2, 3
    assert confident_errors(labels, probabilities) == [99, 98, 97, 20, 10]


def test_indices_of_a_validation_split_are_of_the_training_images():
    labels, probabilities = errors_of_one_pair(3)
    labels[1] = 4
    figure = plot_misclassified(
        load("sample").train_images[:3],
        labels,
        probabilities,
        CIFAR10.classes,
        split="validation",
        indices=np.array([10, 1999, 30]),
    )
    texts = [text.get_text() for text in figure.texts]
    assert texts[0].startswith("Validation set") and "index in the training images" in texts[1] and "#1999" in texts


def test_misclassified_is_empty_for_a_perfect_net():
    images = load("sample").test_images[:10]
    options = {"split": "test", "indices": np.arange(10)}
    figure = plot_misclassified(images, np.arange(10), np.eye(10), CIFAR10.classes, **options)
    assert "of 0 errors" in figure.texts[0].get_text() and not figure.images


def batch(targets, factors=None):
    n = len(targets)
    images = np.random.default_rng(0).integers(0, 255, (2, n, 3, 32, 32), dtype=np.uint8)
    return FirstBatch(images[0], np.argmax(targets, 1), images[1] / 255, targets, factors or {})


def test_training_batch_shows_originals_beside_and_targets_without_the_smoothing_floor():
    targets = np.full((3, 10), 0.01)
    targets[0, [3, 5]], targets[1, 9], targets[2, [1, 2, 4]] = (0.25, 0.67), 0.91, (0.3, 0.4, 0.21)
    first = batch(targets)
    figure = plot_training_batch(first, CIFAR10.classes)
    grid, texts = below_title(figure)
    assert texts[:8] == ["dog", "dog 0.67", "cat 0.25", "truck", "truck 0.91", "bird", "bird 0.40", "automobile 0.30"]
    assert (grid[:IMAGE, :IMAGE] == enlarge(first.originals[0], IMAGE)).all()
    beside = grid[:IMAGE, IMAGE + INNER_GAP : 2 * IMAGE + INNER_GAP]
    assert (beside[::5, ::5] == np.round(255 * first.images[0]).transpose(1, 2, 0)).all()


def test_shares_of_hard_smoothed_and_uniform_targets():
    assert largest_shares(np.eye(10)[4]) == [4]
    assert largest_shares(np.eye(10)[4].astype(np.float32) * np.float32(0.9) + np.float32(0.01)) == [4]
    assert largest_shares(np.full(10, 0.1)) == []


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"Crop": None, "Mixup": 1.0}, "First training batch: Crop, Mixup"),
        (
            {"Crop": None, "Mixup": 0.45, "CutMix": 0.0, "RandAugment": 0, "LabelSmoothing": 0.45},
            "First training batch: Crop; at 45 %: Mixup, LabelSmoothing; off (recipe.strength): CutMix, RandAugment",
        ),
        ({"Mixup": 0.0}, "First training batch: no augmentation; off (recipe.strength): Mixup"),
        ({"Mixup": 0.5}, "First training batch: at 50 %: Mixup"),
        ({}, "First training batch: no augmentation"),
    ],
)
def test_title_of_the_training_batch_says_what_is_scaled_or_off(factors, words):
    figure = plot_training_batch(batch(np.eye(10), factors), CIFAR10.classes)
    written = [text.get_text() for text in figure.texts]
    assert " ".join(written)[: len(words)] == words, "the title may have two lines"


def test_small_images_of_an_early_phase_are_enlarged():
    first = batch(np.eye(10))
    small = FirstBatch(first.originals, first.labels, first.images[:, :, :20, :20], first.targets, {})
    grid, _ = below_title(plot_training_batch(small, CIFAR10.classes))
    beside = grid[:IMAGE, IMAGE + INNER_GAP : 2 * IMAGE + INNER_GAP]
    assert (beside[::8, ::8] == np.round(255 * small.images[0]).transpose(1, 2, 0)).all()
