"""The confusion matrix: counts, recall, precision and the worst pairs."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_precision, multiclass_recall

from minuteloop.data.cifar100_superclasses import SUPERCLASSES
from minuteloop.data.cifar_files import CIFAR10, CIFAR100
from minuteloop.records.plots.confusion import (
    DIAGONAL,
    confusion_counts,
    plot_confusion_matrix,
    recall_and_precision,
    worst_pairs,
)

# the coarse label of each fine label, from the dataset's files
COARSE = """4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15
13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1
2 15 6 0 17 8 14 13"""


def random_predictions(classes, count=500):
    """Return labels and predictions int [count], about 40 % of them correct."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, count)
    return labels, np.where(generator.random(count) < 0.4, labels, generator.integers(0, classes, count))


def by_torchmetrics(metric, labels, predictions, classes, **options):
    return metric(torch.from_numpy(predictions), torch.from_numpy(labels), classes, **options).numpy()


def test_counts_recall_and_precision_equal_torchmetrics():
    labels, predictions = random_predictions(10)
    counts = confusion_counts(labels, predictions, 10)
    assert (counts == by_torchmetrics(multiclass_confusion_matrix, labels, predictions, 10)).all()
    recall, precision = recall_and_precision(counts)
    np.testing.assert_allclose(
        recall, 100 * by_torchmetrics(multiclass_recall, labels, predictions, 10, average=None), rtol=1e-5
    )
    np.testing.assert_allclose(
        precision, 100 * by_torchmetrics(multiclass_precision, labels, predictions, 10, average=None), rtol=1e-5
    )


def test_recall_and_precision_of_classes_without_images_or_predictions():
    recall, precision = recall_and_precision(np.array([[3, 1, 0], [0, 0, 0], [1, 0, 0]]))
    np.testing.assert_allclose(recall, [75, np.nan, 0])
    np.testing.assert_allclose(precision, [75, 0, np.nan])


def test_diagonal_is_grey_and_the_colour_of_errors_is_linear_in_their_percentage():
    labels, predictions = random_predictions(10)
    counts = confusion_counts(labels, predictions, 10)
    figure = plot_confusion_matrix(counts, CIFAR10.classes, split="test")
    axes, bar = figure.axes
    shown = axes.images[0].get_array()
    expected = 100 * by_torchmetrics(multiclass_confusion_matrix, labels, predictions, 10, normalize="true")
    np.testing.assert_allclose(shown.data, expected, rtol=1e-5)
    assert (shown.mask == np.eye(10, dtype=bool)).all() and axes.get_facecolor()[:3] == pytest.approx(
        [int(DIAGONAL[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    )
    errors = expected[~np.eye(10, dtype=bool)]
    assert type(axes.images[0].norm).__name__ == "Normalize"
    assert axes.images[0].get_clim() == pytest.approx((0, errors.max()))
    assert bar.get_ylabel() == "errors, % of the true class"


def test_cells_are_counts_and_edges_recall_and_precision():
    labels, predictions = random_predictions(10)
    counts = confusion_counts(labels, predictions, 10)
    figure = plot_confusion_matrix(counts, CIFAR10.classes, split="validation")
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    recall, precision = recall_and_precision(counts)
    assert texts[:20:2] == [f"{value:.1f}" for value in recall]
    assert texts[1:20:2] == [f"{value:.1f}" for value in precision]
    assert texts[20:22] == ["recall\n%", "precision, %"]
    assert texts[22:] == [f"{value}" for value in counts.ravel() if value]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CIFAR10.classes)
    title, worst = (text.get_text() for text in figure.texts)
    assert title == f"Validation set: {100 * np.mean(labels == predictions):.2f} % of 500 images correct"
    assert all(pair in worst for pair in worst_pairs(counts, CIFAR10.classes))


def test_worst_pairs_are_the_three_most_frequent_errors():
    counts = np.diag([900, 10, 5, 0])
    counts[3, 1], counts[0, 2], counts[1, 3], counts[2, 0] = 7, 9, 1, 8
    names = ["cat", "dog", "pickup_truck", "bus"]
    assert worst_pairs(counts, names) == ["cat as pickup truck 9", "pickup truck as cat 8", "bus as dog 7"]
    assert worst_pairs(np.diag([5, 5]), ["a", "b"]) == []
    figure = plot_confusion_matrix(np.diag([5, 5]), ["a", "b"], split="test")
    assert [text.get_text() for text in figure.texts] == ["Test set: 100.00 % of 10 images correct", "No errors"]


def test_superclasses_match_the_dataset():
    coarse = [int(label) for label in COARSE.split()]
    for index, classes in enumerate(SUPERCLASSES.values()):
        assert {CIFAR100.classes.index(name) for name in classes} == {k for k in range(100) if coarse[k] == index}


def test_confusion_matrix_of_cifar100_is_sorted_by_superclass():
    labels, predictions = random_predictions(100, 3000)
    counts = confusion_counts(labels, predictions, 100)
    axes = plot_confusion_matrix(counts, CIFAR100.classes, split="test").axes[0]
    order = np.argsort([int(label) for label in COARSE.split()], kind="stable")
    percent = 100 * by_torchmetrics(multiclass_confusion_matrix, labels, predictions, 100, normalize="true")
    np.testing.assert_allclose(axes.images[0].get_array().data, percent[np.ix_(order, order)], rtol=1e-4)
    assert len(axes.get_xticklabels()) == 20 and axes.get_xticks()[1] == 7, "centered on classes 5 to 9"
    recall = by_torchmetrics(multiclass_recall, labels, predictions, 100, average=None)[order].reshape(20, 5).mean(1)
    assert [text.get_text() for text in axes.texts[:40:2]] == [f"{100 * value:.1f}" for value in recall]
