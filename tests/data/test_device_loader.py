"""Batches and epochs of DeviceLoader, and the loaders of CIFARDataModule."""

import pytest
import pytorch_lightning as pl
import torch

from minuteloop.data.cifar import load
from minuteloop.data.datamodule import CIFARDataModule
from minuteloop.data.device_loader import DeviceLoader
from minuteloop.validation import ConfigError


def numbered(count):
    """Return blank images and labels that number them: `count` of both."""
    return torch.zeros(count, 3, 2, 2, dtype=torch.uint8), torch.arange(count)


class StepPipeline:
    """Makes targets [N, 2] of (label, first step of the chunk), and records the calls."""

    def __init__(self):
        self.calls = []

    def chunk(self, images, labels, epoch, step):
        self.calls.append((len(labels), epoch, step))
        return images, torch.stack([labels, torch.full_like(labels, step)], dim=1)


@pytest.mark.parametrize("batch", [25, 40, 300])
def test_chunks_are_the_same_wherever_an_epoch_resumes(batch, monkeypatch):
    monkeypatch.setattr("minuteloop.data.device_loader.CHUNK", 100)
    images, labels = numbered(1000)
    pipeline = StepPipeline()

    def batches(done):
        pipeline.calls.clear()
        counters = {"epoch": lambda: 2, "batches_done": lambda: done}
        return [
            targets for _, targets in DeviceLoader(images, labels, labels, batch, seed=3, pipeline=pipeline, **counters)
        ]

    epoch, per_chunk = batches(0), max(1, 100 // batch)
    steps = 1000 // batch
    starts = range(0, steps, per_chunk)
    assert pipeline.calls == [(min(per_chunk, steps - start) * batch, 2, 2 * steps + start) for start in starts]
    assert len(torch.cat(epoch)[:, 0].unique()) == len(torch.cat(epoch)) == steps * batch
    for done in range(steps + 1):
        assert all(map(torch.equal, batches(done), epoch[done:]))
        assert len(pipeline.calls) == len(starts) - done // per_chunk


@pytest.mark.parametrize(("batch", "accumulate"), [(25, 2), (25, 3), (40, 4), (60, 2)])
def test_chunks_of_accumulated_batches_begin_with_an_optimizer_step(batch, accumulate, monkeypatch):
    monkeypatch.setattr("minuteloop.data.device_loader.CHUNK", 100)
    images, labels = numbered(1000)
    pipeline = StepPipeline()
    counters = {"epoch": lambda: 2, "accumulate": accumulate}
    loader = DeviceLoader(images, labels, labels, batch, seed=3, pipeline=pipeline, **counters)
    steps = 1000 // (batch * accumulate)
    assert len(list(loader)) == len(loader) == steps * accumulate
    per_chunk = max(1, 100 // (batch * accumulate))  # steps
    assert [step for _, _, step in pipeline.calls] == list(range(2 * steps, 3 * steps, per_chunk))
    assert sum(images for images, _, _ in pipeline.calls) == steps * accumulate * batch


def test_resume_without_a_pipeline_skips_the_batches_done():
    images, labels = numbered(100)

    def order(done):
        loader = DeviceLoader(images, labels, labels, 25, seed=3, epoch=lambda: 1, batches_done=lambda: done)
        return [batch.tolist() for _, batch in loader]

    assert order(3) == order(0)[3:] and len(order(3)) == 1


def test_each_epoch_has_its_own_order_of_all_images():
    images, labels = numbered(100)

    def order(epoch):
        loader = DeviceLoader(images, labels, labels, 25, seed=3, epoch=lambda: epoch)
        return torch.cat([batch for _, batch in loader])

    for epoch in range(2):
        assert torch.equal(order(epoch).sort().values, labels)
    assert not torch.equal(order(0), order(1)) and torch.equal(order(1), order(1))


def test_order_of_an_epoch_never_changes():
    images, labels = numbered(12)
    (first, *_) = DeviceLoader(images, labels, labels, 12, seed=3, epoch=lambda: 2)
    expected = torch.randperm(12, generator=torch.Generator().manual_seed(3 * 1_000_003 + 2))
    assert torch.equal(first[1], expected)


@pytest.mark.parametrize(("repeats", "batch"), [(3, 25), (2, 24), (4, 100)])
def test_repeats_give_a_batch_each_of_its_images_that_often_and_never_adjacent(repeats, batch):
    images, labels = numbered(100)

    def batches(epoch, repeats):
        loader = DeviceLoader(images, labels, labels, batch, seed=3, repeats=repeats, epoch=lambda: epoch)
        return [batch_labels for _, batch_labels in loader]

    repeated = batches(0, repeats)
    assert len(repeated) == len(batches(0, 1)) and all(len(batch_labels) == batch for batch_labels in repeated)
    counts = torch.cat(repeated).bincount(minlength=100)
    drawn = -(-len(repeated) * batch // repeats)
    assert counts.max() == repeats and (counts > 0).sum() == drawn and (counts == repeats).sum() >= drawn - 1
    for batch_labels in repeated:
        assert (batch_labels != batch_labels.roll(1)).all()
        assert len(batch_labels.unique()) <= batch // repeats + 2
    order = torch.cat(repeated)
    assert torch.equal(order, torch.cat(batches(0, repeats)))
    assert not torch.equal(order.unique(), torch.cat(batches(1, repeats)).unique())


def test_training_drops_the_incomplete_batch_and_evaluation_keeps_it():
    images, labels = numbered(103)
    train = DeviceLoader(images, labels, labels, 25, seed=0)
    assert [len(batch) for _, batch in train] == [25] * 4 and len(train) == 4
    evaluation = DeviceLoader(images, labels, labels, 25)
    assert torch.equal(torch.cat([batch for _, batch in evaluation]), labels) and len(evaluation) == 5


def test_batch_larger_than_the_training_split_is_rejected():
    with pytest.raises(ConfigError, match=r"recipe\.batch_size=1700: must be at most 1600, the training images"):
        CIFARDataModule(load("sample"), batch_size=1700, holdout=400)


def test_training_and_validation_split_are_disjoint():
    data = CIFARDataModule(load("sample"), batch_size=64, holdout=400)
    assert not set(data.train_indices.tolist()) & set(data.val_indices.tolist())
    assert len(data.train_indices) + len(data.val_indices) == 2000


class Recorder(pl.LightningModule):
    """Keeps the batches that it is trained on; its weight only makes it trainable."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches = []

    def training_step(self, batch, batch_idx):
        self.batches.append(batch)
        return self.weight.square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    module = Recorder()
    trainer = pl.Trainer(accelerator="cpu", enable_model_summary=False, max_steps=2, limit_val_batches=0, **quiet)
    trainer.fit(module, data)
    return module.batches


def test_pipeline_of_the_datamodule_can_be_replaced_between_fits():
    data = CIFARDataModule(load("sample"), batch_size=64, holdout=400)
    plain = fit(data)
    assert [(images.dtype, images.shape, labels.shape) for images, labels in plain] == [
        (torch.uint8, (64, 3, 32, 32), (64,))
    ] * 2
    for _ in range(2):
        data.pipeline = StepPipeline()
        batches = fit(data)
        assert data.pipeline.calls == [(1600, 0, 0)]
        for (images, labels), (images_, targets) in zip(plain, batches, strict=True):
            assert torch.equal(images, images_) and torch.equal(labels, targets[:, 0])


def test_pipeline_moves_to_the_device_of_the_images():
    data = CIFARDataModule(load("sample"), batch_size=64, holdout=400, pipeline=StepPipeline())
    moved = []
    data.pipeline.to = moved.append
    fit(data)
    assert moved == [torch.device("cpu")] == [data.device]
