"""Classifier: draws that depend on (seed, step) only, the schedule, EMA and evaluation."""

import dataclasses
import math

import pytest
import pytorch_lightning as pl
import torch

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.data.cifar import load
from minuteloop.data.datamodule import CIFARDataModule
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.recipe.augment.random_seed import draw_seed, reseed
from minuteloop.recipe.callbacks.ema import EMA
from minuteloop.training.classifier import Classifier
from minuteloop.training.plan import Plan

IMAGES = load("sample")


def classifier(seed=0, recipe="deit", **plan) -> Classifier:
    torch.manual_seed(0)
    config = compose(["arch=convnext", "size=nano", "size.reduce=32", f"recipe={recipe}"])
    net = build_net(resolve(config.arch, config.size, 32, 10))
    defaults = {"steps": 8, "batch_size": 64, "epochs": 1.0, "strength": {}, "lr": 1e-3, "weight_decay": 0.05}
    frozen = Plan(**(defaults | plan), seconds_asked=None)
    return Classifier(net, instantiate.ingredients(config.recipe), frozen, IMAGES, seed=seed)


def trainer(**kwargs) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", enable_model_summary=False, max_epochs=-1, **quiet, **kwargs)


def data_for(module: Classifier) -> CIFARDataModule:
    return CIFARDataModule(IMAGES, 64, 400, pipeline=module.pipeline)


def test_normalized_images_have_mean_0_and_std_1():
    images = classifier().pipeline.normalize(torch.from_numpy(IMAGES.train_images))
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_draws_are_a_function_of_seed_and_step():
    batch = torch.from_numpy(IMAGES.train_images[:64]), torch.from_numpy(IMAGES.train_labels[:64])

    def chunk(seed, step):
        return classifier(seed).pipeline.chunk(*batch, epoch=0, step=step)[0]

    def finished(seed, step):
        pipeline = classifier(seed).pipeline
        reseed(seed, step)
        return pipeline.batch(batch[0], torch.eye(10)[batch[1]], 0)[0]

    for draw in (chunk, finished):
        assert torch.equal(draw(0, 5), draw(0, 5))
        assert not torch.equal(draw(0, 5), draw(0, 6)) and not torch.equal(draw(0, 5), draw(1, 5))


def test_draw_seeds_never_repeat():
    """Steps below 0 are those of chunks."""
    seeds = {draw_seed(seed, step) for seed in range(50) for step in range(-2000, 2000)}
    assert len(seeds) == 200_000 and all(0 <= seed < 2**64 for seed in seeds)


def test_draw_seeds_of_accumulated_batches_and_processes_never_repeat():
    streams = [(step, micro_batch, stream) for step in range(2000) for micro_batch in range(8) for stream in range(9)]
    assert len({draw_seed(0, *stream) for stream in streams}) == len(streams)
    assert draw_seed(3, 7, 0, 0) == draw_seed(3, 7)


def test_step_is_seeded_as_by_torch_manual_seed():
    reseed(3, 7)
    drawn = torch.rand(5)
    torch.manual_seed(draw_seed(3, 7))
    assert torch.equal(torch.rand(5), drawn)


def test_learning_rate_follows_the_schedule_step_by_step():
    module, rates = classifier(steps=8), []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(max_steps=8, callbacks=[Watch()]).fit(module, data_for(module))
    assert rates == pytest.approx([1e-3 * module.ingredients.schedule((step + 1) / 8, 1.0) for step in range(8)])


@pytest.mark.parametrize("every", [4, 3, 0])
def test_training_loss_is_read_once_for_each_log_of_the_trainer_and_for_the_steps_after_the_last(every, monkeypatch):
    """A read waits for the device. A user's own Trainer may log at another interval than a run; 0 is never."""
    module, logged, reads = classifier(steps=8), [], []
    item = torch.Tensor.item

    class Watch(pl.loggers.logger.DummyLogger):
        def log_metrics(self, metrics, step=None):
            if "train/loss" in metrics:
                logged.append((step, metrics["train/loss"], metrics["lr"]))

    class Losses(pl.Callback):
        losses = ()

        def on_train_batch_end(self, trainer, pl_module, outputs, *_):
            self.losses += (outputs["loss"].detach(),)

    def count(tensor):
        if tensor is module.train_loss:
            reads.append(module.global_step)
        return item(tensor)

    monkeypatch.setattr(torch.Tensor, "item", count)
    losses = Losses()
    options = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=8,
        limit_val_batches=0,
        logger=Watch(),
        callbacks=[losses],
        log_every_n_steps=every,
        **options,
    )
    run.fit(module, data_for(module))
    steps = list(range(every, 9, every)) if every else []
    rates = [1e-3 * module.ingredients.schedule(step / 8, 1.0) for step in steps]
    means = [torch.stack(losses.losses[step - every : step]).mean().item() for step in steps]
    assert [step for step, _, _ in logged] == steps and len(reads) == math.ceil(8 / (every or 8))
    assert [loss for _, loss, _ in logged] == pytest.approx(means)
    assert [rate for _, _, rate in logged] == pytest.approx(rates)


def test_final_weights_are_the_ema_in_closed_form():
    module = classifier(steps=6)
    ema = EMA(window=0.5)
    module.ingredients = dataclasses.replace(module.ingredients, callbacks={"ema": ema})
    name = "net.head.linear.weight"
    history = [module.state_dict()[name].clone()]

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            history.append(pl_module.state_dict()[name].clone())

    data = data_for(module)
    trainer(max_steps=6, callbacks=[Watch()]).fit(module, data)
    average = history[0]
    for step, weight in enumerate(history[1:], 1):
        decay = ema.decay(step, 6)
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(module.state_dict()[name], average)
    assert not torch.equal(average, history[-1])


def test_batches_that_no_pipeline_augmented_are_rejected():
    with pytest.raises(ValueError, match=r"targets must be soft, \[N,K\]: make the data with CIFARDataModule"):
        trainer(max_steps=1).fit(classifier(), CIFARDataModule(IMAGES, 64, 400))


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 32, 32), torch.zeros(3, 32, 32, dtype=torch.uint8)], ids=["float", "single"]
)
def test_forward_rejects_images_that_are_normalized_or_not_a_batch(images):
    with pytest.raises(ValueError, match=r"images must be a uint8 tensor \[N,3,H,W\], got torch"):
        classifier()(images)


def test_validation_metrics_match_plain_torch_on_the_validation_split():
    module = classifier()
    data = data_for(module)
    run = trainer()
    metrics = run.validate(module, data, verbose=False)[0]
    indices = data.val_indices
    with torch.no_grad():
        logits = module.eval()(torch.from_numpy(IMAGES.train_images)[indices])
    labels = torch.from_numpy(IMAGES.train_labels)[indices]
    assert metrics["val/acc"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert metrics["val/loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)


def test_net_can_overfit_a_few_images():
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
