"""Pictures of a run show its numbers."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_confusion_matrix

import minuteloop
from minuteloop.config import instantiate
from minuteloop.config.compose import compose
from minuteloop.data.cifar import load
from minuteloop.data.cifar100_superclasses import SUPERCLASSES
from minuteloop.data.cifar_files import CIFAR10, CIFAR100
from minuteloop.recipe.augment.random_seed import draw_seed
from minuteloop.records import plots
from minuteloop.training.classifier import Classifier
from minuteloop.training.plan import make_plan

SMALLEST = ["arch=resnet18", "size.depth=0.1", "size.width=0.125", "recipe.batch_size=32"]
QUICK = [*SMALLEST, "data=sample", "logger=none", "threads=1", "evaluations=1"]
# the coarse label of each fine label, from the dataset's files
COARSE = """4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15
13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1
2 15 6 0 17 8 14 13"""


def random_predictions(classes, count=500):
    """Return labels and predictions int [count], about 40 % of them correct."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, count)
    return labels, np.where(generator.random(count) < 0.4, labels, generator.integers(0, classes, count))


def percentages(labels, predictions, classes):
    """Return torchmetrics' confusion matrix in percent of the true class."""
    arrays = (torch.from_numpy(array) for array in (predictions, labels))
    return 100 * multiclass_confusion_matrix(*arrays, classes, normalize="true").numpy()


def test_confusion_matrix_equals_torchmetrics():
    labels, predictions = random_predictions(10)
    axes = plots.plot_confusion_matrix(labels, predictions, CIFAR10.classes).axes[0]
    expected = percentages(labels, predictions, 10)
    np.testing.assert_allclose(np.square(axes.images[0].get_array()), expected, rtol=1e-5)
    assert [text.get_text() for text in axes.texts] == [f"{value:.0f}" for value in expected.ravel()]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CIFAR10.classes)
    assert f"{np.mean(labels == predictions):.2%} of 500" in axes.get_title()


def test_superclasses_match_the_dataset():
    coarse = [int(label) for label in COARSE.split()]
    for index, classes in enumerate(SUPERCLASSES.values()):
        assert {CIFAR100.classes.index(name) for name in classes} == {k for k in range(100) if coarse[k] == index}


def test_confusion_matrix_of_cifar100_is_sorted_by_superclass():
    labels, predictions = random_predictions(100, 3000)
    axes = plots.plot_confusion_matrix(labels, predictions, CIFAR100.classes).axes[0]
    order = np.argsort([int(label) for label in COARSE.split()], kind="stable")
    expected = percentages(labels, predictions, 100)[np.ix_(order, order)]
    np.testing.assert_allclose(np.square(axes.images[0].get_array()), expected, rtol=1e-4)
    assert not axes.texts and len(axes.get_xticklabels()) == 20
    assert axes.get_xticks()[1] == 7, "centered on classes 5 to 9"


def test_misclassified_images_are_sorted_by_confidence():
    images = load("sample").test_images
    probabilities = np.full((1000, 10), 0.05)
    labels = np.zeros(1000, int)
    probabilities[:, 0] = 0.55
    for index, (prediction, confidence) in {7: (3, 0.6), 400: (1, 0.9), 999: (9, 0.8)}.items():
        probabilities[index] = (1 - confidence) / 9
        probabilities[index, prediction] = confidence
    axes = plots.plot_misclassified(images, labels, probabilities, CIFAR10.classes).axes[0]
    captions = [text.get_text() for text in axes.texts]
    assert captions[1::2] == ["predicted automobile, 90%", "predicted truck, 80%", "predicted cat, 60%"]
    assert captions[::2] == ["airplane"] * 3
    canvas = axes.images[0].get_array()
    np.testing.assert_allclose(canvas[:32, 40:72], images[999].transpose(1, 2, 0) / 255)


def test_misclassified_is_empty_for_a_perfect_net():
    images = load("sample").test_images[:10]
    figure = plots.plot_misclassified(images, np.arange(10), np.eye(10), CIFAR10.classes)
    assert not figure.axes[0].texts and plots.encode_png(figure)


def test_the_kept_training_batch_is_the_first_after_augmentation():
    """It equals a second augmentation with the draws of step 0, outside of training."""
    images = load("sample")
    config = compose([*QUICK, "recipe=deit", "recipe.strength=1"])
    ingredients = instantiate.ingredients(config.recipe).at_strength(1.0)
    plan = make_plan("40steps", config.recipe, ingredients.optimizer.auto_lr, 1600)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    module = Classifier(net, ingredients, plan, images, seed=5)
    module.train_loss = torch.zeros(())
    batch = torch.from_numpy(images.train_images[:64]), torch.from_numpy(images.train_labels[:64])
    for _ in range(2):  # the second batch is not kept
        chunk = module.pipeline.chunk(*batch, epoch=0, step=0)
        with torch.no_grad():
            module.training_step(chunk, 0)
        batch = batch[0].flip(0), batch[1].flip(0)
    chunk = module.pipeline.chunk(*batch, epoch=0, step=0)
    torch.manual_seed(draw_seed(5, 0))
    expected, targets = module.pipeline.batch(*chunk, 0)
    assert torch.equal(module.first_batch[0], expected[:32]) and torch.equal(module.first_batch[1], targets[:32])
    assert targets[:32].max(1).values.min() < 0.7, "mixed"


def test_training_batch_shows_the_two_largest_values_of_a_target():
    images = np.full((2, 3, 32, 32), 0.5)
    targets = np.zeros((2, 10))
    targets[0, [3, 5]], targets[1, 9] = (0.25, 0.75), 1.0
    axes = plots.plot_training_batch(images, targets, CIFAR10.classes).axes[0]
    assert [text.get_text() for text in axes.texts] == ["dog 0.75", "cat 0.25", "truck 1.00", ""]


def test_curves_plot_the_rows_sorted_by_step():
    rows = [
        {"step": "100", "train/loss": "1.5", "lr": "2e-3", "val/acc": "", "test/acc": ""},
        {"step": "50", "train/loss": "2", "lr": "1e-3", "val/acc": ""},
        {"step": "100", "train/loss": "", "lr": "", "val/acc": "0.4", "val/loss": "1.7"},
    ]
    loss, accuracy, rate = plots.plot_curves(rows).axes
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[50, 2], [100, 1.5]])
    np.testing.assert_allclose(loss.lines[1].get_xydata(), [[100, 1.7]])
    np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [[100, 40]])
    np.testing.assert_allclose(rate.lines[0].get_xydata(), [[50, 1e-3], [100, 2e-3]])


def test_run_draws_pictures_unless_they_are_disabled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = minuteloop.run([*QUICK, "budget=60steps", "hydra.run.dir=mine"])
    files = sorted((tmp_path / "mine/pictures").iterdir())
    assert [file.name for file in files] == [
        "confusion_matrix.png",
        "curves.png",
        "misclassified.png",
        "training_batch.png",
    ]
    for file in files:
        with Image.open(file) as image:
            assert image.format == "PNG" and np.asarray(image).std() > 10
    assert record["seconds"]["log"] > 0.1, "drawing counts as logging"
    minuteloop.run([*QUICK, "budget=60steps", "logger.pictures=false", "hydra.run.dir=plain"])
    assert not (tmp_path / "plain/pictures").exists()
    assert (tmp_path / "plain/model.safetensors").read_bytes() == (tmp_path / "mine/model.safetensors").read_bytes()


def test_failed_picture_is_a_warning(tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no ink")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "plot_misclassified", broken)
    record = minuteloop.run([*QUICK, "budget=2steps", "hydra.run.dir=mine"])
    assert record["status"] == "finished" and record["error"] is None
    log = (tmp_path / "mine/log.txt").read_text()
    assert "warning: pictures/misclassified.png was not drawn: ValueError: no ink" in log
    assert len(list((tmp_path / "mine/pictures").iterdir())) == 3


@pytest.mark.parametrize("classes", [10, 100])
def test_drawing_leaves_matplotlib_globals_unchanged(classes):
    code = f"""if True:
        import matplotlib, numpy as np
        settings = lambda: repr(sorted(dict.items(matplotlib.rcParams)))  # rcParams.items() would pick a backend
        before = settings()
        from minuteloop.records import plots
        plots.encode_png(plots.plot_confusion_matrix(np.arange({classes}), np.arange({classes}), ["a"] * {classes}))
        plots.encode_png(plots.plot_curves([]))
        from matplotlib._pylab_helpers import Gcf
        assert settings() == before and not Gcf.figs
        import sys
        assert "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
    """
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_encode_png_has_the_size_of_the_figure():
    with Image.open(io.BytesIO(plots.encode_png(plots.plot_curves([])))) as image:
        assert image.size == (1200, 360)
