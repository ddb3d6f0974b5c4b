"""Schedules, progressive phases, losses and TTA against closed forms, torch and timm."""

import pytest
import timm.loss
import torch
from torch import nn

from minuteloop.recipe.augment.label_smoothing import LabelSmoothing
from minuteloop.recipe.losses import BinaryCrossEntropy, CrossEntropy
from minuteloop.recipe.progressive import Phase, Progressive
from minuteloop.recipe.schedules import Cosine, Exponential, StepDecay, Triangle
from minuteloop.recipe.tta import TTA, shift_reflecting
from minuteloop.validation import ConfigError, check


def test_cosine_in_closed_form():
    schedule = Cosine(warmup=5, max_warmup_fraction=0.1, min_lr_ratio=0.01)
    for epochs, warmup in ((300, 5 / 300), (10, 0.1), (1, 0.1)):
        assert schedule(0, epochs) == 0 and schedule(1, epochs) == pytest.approx(0.01)
        assert schedule(warmup / 2, epochs) == pytest.approx(0.5) and schedule(warmup, epochs) == pytest.approx(1)
        assert schedule((1 + warmup) / 2, epochs) == pytest.approx(0.01 + 0.99 / 2)
    assert Cosine(warmup=0)(0, 300) == 1


def test_triangle_in_closed_form():
    triangle = Triangle(start=0.2, peak=0.25, min_lr_ratio=0.1)
    factors = [triangle(progress, 10.0) for progress in (0, 0.125, 0.25, 0.625, 1)]
    assert factors == pytest.approx([0.2, 0.6, 1.0, 0.55, 0.1])
    assert Triangle(start=1, peak=0, min_lr_ratio=0)(0.25, 10.0) == pytest.approx(0.75)
    assert Triangle(peak=1)(1.0, 10.0) == 1


def test_step_decay_matches_the_paper_at_90_epochs():
    schedule = StepDecay()
    factors = [schedule(epoch / 90, 90) for epoch in (1, 29, 31, 59, 61, 90)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    with pytest.raises(ConfigError, match=r"recipe.schedule.at=\[30\]: must be numbers in \[0, 1\]"):
        check(StepDecay(at=[30]), "recipe.schedule.")


def test_exponential_matches_the_paper_at_350_epochs():
    schedule = Exponential()
    assert schedule(5 / 350, 350) == pytest.approx(0.0118 ** (5 / 350))
    assert schedule(2.5 / 350, 350) == pytest.approx(0.5)
    for epoch in (24, 120, 350):
        assert schedule(epoch / 350, 350) == pytest.approx(0.97 ** (epoch / 2.4), rel=0.01)


def test_image_size_and_strength_grow_together():
    phases = [Progressive().phase(index, 32) for index in range(4)]
    assert [(phase.start, phase.image_size, phase.strength) for phase in phases] == [
        (0, 16, pytest.approx(1 / 3, abs=1e-5)),
        (0.25, 20, pytest.approx(5 / 9, abs=1e-5)),
        (0.5, 28, pytest.approx(7 / 9, abs=1e-5)),
        (0.75, 32, 1),
    ]
    assert [Progressive().phase_at(progress, 32) for progress in (0, 0.25, 0.7, 1)] == phases
    paper = Progressive(smallest=128 / 300, multiple=1)  # Tan 2021, table 6: 128 to 300 pixels
    assert [paper.phase(index, 300).image_size for index in range(4)] == [128, 185, 243, 300]
    assert Progressive(phases=1).phase(0, 32) == Phase(start=0, image_size=32, strength=1)


def test_label_smoothing_and_loss_match_torch():
    logits, targets = torch.randn(512, 10), nn.functional.one_hot(torch.arange(512) % 10, 10).float()
    ours = CrossEntropy()(logits, LabelSmoothing(0.1)(targets))
    theirs = nn.functional.cross_entropy(logits, targets.argmax(1), label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("threshold", [None, 0.2])
def test_binary_cross_entropy_matches_timm(threshold):
    logits, targets = torch.randn(8, 10), torch.rand(8, 10)
    theirs = timm.loss.BinaryCrossEntropy(smoothing=0, target_threshold=threshold)(logits, targets)
    torch.testing.assert_close(BinaryCrossEntropy(threshold=threshold)(logits, targets), theirs)


def test_shifted_views_are_windows_of_the_reflected_image(sample):
    images = sample[:64]
    padded = nn.functional.pad(images.float(), [1] * 4, mode="reflect").to(torch.uint8)
    assert torch.equal(shift_reflecting(images, 1), padded[:, :, 0:32, 0:32])
    assert torch.equal(shift_reflecting(images, -1), padded[:, :, 2:34, 2:34])


def test_tta_weighs_its_six_views_as_published():
    images = torch.rand(2, 3, 8, 8)
    views = []

    def classify(batch):
        views.append(batch)
        return batch.flatten(1)[:, :4]

    logits = TTA(shift=1)(classify, images)
    assert len(views) == 6
    outputs = [batch.flatten(1)[:, :4] for batch in views]
    unshifted = sum(outputs[:2]) / 2
    shifted = sum(outputs[2:]) / 4
    torch.testing.assert_close(logits, unshifted / 2 + shifted / 2)
    assert torch.equal(views[1], images.flip(3))
    assert len(TTA(shift=0)(classify, images)) == 2 and len(views) == 8
