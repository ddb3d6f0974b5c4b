"""The module and its loaders: draws that depend on (seed, step) only, whole epochs, evaluation off the clock."""

import dataclasses
import time

import pytest
import pytorch_lightning as pl
import torch

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.data.cifar import load
from minuteloop.data.datamodule import CIFARDataModule
from minuteloop.data.device_loader import DeviceLoader
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.recipe.callbacks.ema import EMA
from minuteloop.training.classifier import Classifier, draw_seed, reseed
from minuteloop.training.plan import Plan
from minuteloop.training.timing import Clock
from minuteloop.validation import ConfigError

IMAGES = load("sample")


def classifier(seed=0, recipe="deit", **plan) -> Classifier:
    torch.manual_seed(0)
    config = compose(["arch=convnext", "size=nano", "size.reduce=32", f"recipe={recipe}"])
    net = build_net(resolve(config.arch, config.size, 32, 10))
    defaults = {"steps": 8, "batch_size": 64, "epochs": 1.0, "strength": 1.0, "lr": 1e-3, "weight_decay": 0.05}
    frozen = Plan(**(defaults | plan), seconds_asked=None)
    return Classifier(net, instantiate.ingredients(config.recipe), frozen, IMAGES, seed=seed)


def trainer(**more) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", enable_model_summary=False, max_epochs=-1, **quiet, **more)


def test_normalized_images_have_mean_0_and_deviation_1():
    images = classifier().normalize(torch.from_numpy(IMAGES.train_images))
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_every_draw_of_a_step_is_a_function_of_seed_and_step():
    batch = torch.from_numpy(IMAGES.train_images[:64]), torch.from_numpy(IMAGES.train_labels[:64])

    def prepared(seed, step):
        return classifier(seed).prepare(*batch, epoch=0, step=step)[0]

    def finished(seed, step):
        module = classifier(seed)
        reseed(seed, step)
        return module.finish(batch[0], torch.eye(10)[batch[1]])[0]

    for drawn in (prepared, finished):
        assert torch.equal(drawn(0, 5), drawn(0, 5))
        assert not torch.equal(drawn(0, 5), drawn(0, 6)) and not torch.equal(drawn(0, 5), drawn(1, 5))


def test_draw_seeds_do_not_meet():
    """Those of chunks are below 0, those of steps from 0 on."""
    seeds = {draw_seed(seed, step) for seed in range(50) for step in range(-2000, 2000)}
    assert len(seeds) == 200_000 and all(0 <= seed < 2**64 for seed in seeds)


def test_a_step_is_seeded_as_torch_does():
    reseed(3, 7)
    drawn = torch.rand(5)
    torch.manual_seed(draw_seed(3, 7))
    assert torch.equal(torch.rand(5), drawn)


@pytest.mark.parametrize("batch", [25, 40, 300])
def test_batches_are_prepared_several_at_once_and_alike_from_wherever_an_epoch_goes_on(batch, monkeypatch):
    monkeypatch.setattr("minuteloop.data.device_loader.CHUNK", 100)
    images, labels = torch.zeros(1000, 3, 2, 2, dtype=torch.uint8), torch.arange(1000)
    calls = []

    def prepare(images, labels, epoch, step):
        calls.append((len(labels), epoch, step))
        return images, torch.stack([labels, torch.full_like(labels, step)], dim=1)

    def batches(met):
        calls.clear()
        found = DeviceLoader(images, labels, labels, batch, seed=3, epoch=lambda: 2, met=lambda: met, prepare=prepare)
        return [targets for _, targets in found]

    whole, at_once = batches(0), max(1, 100 // batch)
    steps = 1000 // batch
    starts = range(0, steps, at_once)
    assert calls == [(min(at_once, steps - start) * batch, 2, 2 * steps + start) for start in starts]
    assert len(torch.cat(whole)[:, 0].unique()) == len(torch.cat(whole)) == steps * batch
    for met in range(steps + 1):
        assert all(map(torch.equal, batches(met), whole[met:])) and len(calls) == len(starts) - met // at_once


def test_an_epoch_of_the_loader_meets_every_image_once_in_an_order_of_its_own():
    images, labels = torch.zeros(100, 3, 2, 2, dtype=torch.uint8), torch.arange(100)

    def order(epoch):
        loader = DeviceLoader(images, labels, torch.arange(100), 25, seed=3, epoch=lambda: epoch)
        return torch.cat([batch for _, batch in loader])

    for epoch in range(2):
        assert torch.equal(order(epoch).sort().values, labels)
    assert not torch.equal(order(0), order(1)) and torch.equal(order(1), order(1))


@pytest.mark.parametrize(("repeats", "batch"), [(3, 25), (2, 24), (4, 100)])
def test_repeats_give_each_batch_its_images_that_often_and_never_side_by_side(repeats, batch):
    images, labels = torch.zeros(100, 3, 2, 2, dtype=torch.uint8), torch.arange(100)

    def batches(epoch, repeats):
        loader = DeviceLoader(images, labels, torch.arange(100), batch, seed=3, repeats=repeats, epoch=lambda: epoch)
        return [found for _, found in loader]

    found = batches(0, repeats)
    assert len(found) == len(batches(0, 1)) and all(len(labels) == batch for labels in found)
    counts = torch.cat(found).bincount(minlength=100)
    drawn = -(-len(found) * batch // repeats)
    assert counts.max() == repeats and (counts > 0).sum() == drawn and (counts == repeats).sum() >= drawn - 1
    for labels_ in found:
        assert (labels_ != labels_.roll(1)).all()
        assert len(labels_.unique()) <= batch // repeats + 2
    order = torch.cat(found)
    assert torch.equal(order, torch.cat(batches(0, repeats)))
    assert not torch.equal(order.unique(), torch.cat(batches(1, repeats)).unique()) or repeats == 1


def test_training_batches_are_whole_and_evaluation_meets_every_image():
    images, labels = torch.zeros(103, 3, 2, 2, dtype=torch.uint8), torch.arange(103)
    train = DeviceLoader(images, labels, torch.arange(103), 25, seed=0)
    assert [len(batch) for _, batch in train] == [25] * 4 and len(train) == 4
    evaluation = DeviceLoader(images, labels, torch.arange(103), 25)
    assert torch.equal(torch.cat([batch for _, batch in evaluation]), labels) and len(evaluation) == 5


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(ConfigError, match=r"recipe\.batch_size=1700: there are 1600 training images"):
        CIFARDataModule(IMAGES, batch_size=1700, holdout=400)


def test_validation_images_are_never_trained_on():
    data = CIFARDataModule(IMAGES, batch_size=64, holdout=400)
    assert not set(data.train_indices.tolist()) & set(data.val_indices.tolist())
    assert len(data.train_indices) + len(data.val_indices) == 2000


def test_learning_rate_follows_the_schedule_step_by_step():
    module, seen = classifier(steps=8), []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(max_steps=8, callbacks=[Watch()]).fit(module, CIFARDataModule(IMAGES, 64, 400))
    assert seen == pytest.approx([1e-3 * module.ingredients.schedule((step + 1) / 8, 1.0) for step in range(8)])


def test_ema_is_evaluated_and_kept_and_follows_its_closed_form():
    module = classifier(steps=6)
    ema = EMA(window=0.5)
    module.ingredients = dataclasses.replace(module.ingredients, callbacks=(ema,))
    name = "net.head.linear.weight"
    history = [module.state_dict()[name].clone()]

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            history.append(pl_module.state_dict()[name].clone())

    data = CIFARDataModule(IMAGES, 64, 400)
    trainer(max_steps=6, callbacks=[Watch()]).fit(module, data)
    average = history[0]
    for step, weight in enumerate(history[1:], 1):
        decay = ema.decay(step, 6)
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(module.state_dict()[name], average)
    assert not torch.equal(average, history[-1])


def test_training_seconds_leave_out_evaluation():
    class Slow(pl.Callback):
        def on_validation_batch_start(self, *_):
            time.sleep(0.5)

    clock = Clock()
    run = trainer(max_steps=4, val_check_interval=2, check_val_every_n_epoch=None, callbacks=[clock, Slow()])
    begin = time.perf_counter()
    run.fit(classifier(), CIFARDataModule(IMAGES, 64, 400))
    wall = time.perf_counter() - begin
    evaluating = clock.stopwatch.seconds["eval"]
    assert evaluating >= 1.0
    assert 0 < clock.seconds <= wall - evaluating


def test_validation_accuracy_is_that_of_the_validation_images():
    module, data = classifier(), CIFARDataModule(IMAGES, 64, 400)
    run = trainer()
    metrics = run.validate(module, data, verbose=False)[0]
    chosen = data.val_indices
    with torch.no_grad():
        logits = module.eval()(torch.from_numpy(IMAGES.train_images)[chosen])
    labels = torch.from_numpy(IMAGES.train_labels)[chosen]
    assert metrics["val/acc"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert metrics["val/loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)


def test_a_few_images_can_be_learned_by_heart():
    torch.manual_seed(0)
    module = classifier()
    images, labels = torch.from_numpy(IMAGES.train_images[:32]), torch.from_numpy(IMAGES.train_labels[:32])
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
