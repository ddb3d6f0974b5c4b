"""The module and the data in a user's own Trainer: shared batches, accumulation, 16-mixed, checkpoints, predictions."""

import logging
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins import MixedPrecision
from torch import nn

from minuteloop import build, compose
from minuteloop.recipe.augment.random_seed import draw_seed
from minuteloop.training.classifier import Classifier
from minuteloop.validation import ConfigError

QUIET = {"accelerator": "cpu", "max_epochs": -1, "enable_progress_bar": False, "enable_model_summary": False}
NO_DRAWS = [f"~recipe.batch.{name}" for name in ("crop", "flip", "rand_augment", "random_erasing", "mixup", "cutmix")]
NO_DRAWS += ["~recipe.regularizers.drop_path"]
TINY = ["arch=resnet18", "size.reduce=32", "size.depth=0.1", "size.width=0.0625"]


class SeededNet(nn.Module):
    """A linear net that records its inputs and the seed that its own draws would have."""

    def __init__(self):
        super().__init__()
        self.linear, self.inputs, self.seeds = nn.Linear(3072, 10), [], []
        self.head = self.linear

    def forward(self, images):
        self.inputs.append(images.detach().clone())
        self.seeds.append(torch.initial_seed())
        return self.linear(images.flatten(1))

    def init_from(self, images):
        pass

    def set_drop_path(self, rate):
        pass


def parts_of(*overrides, net=None, monkeypatch=None):
    """Return the parts of a config of the sample, with a net of the test's own if given."""
    if net is not None:
        torch.manual_seed(0)
        monkeypatch.setattr("minuteloop.training.build.build_net", lambda spec: net())
    return build(compose([*TINY, "data=sample", "recipe.batch_size=64", "recipe.strength=1", "seed=3", *overrides]))


def trainer(plan, **kwargs) -> pl.Trainer:
    return pl.Trainer(max_steps=plan.steps, **QUIET, **({"logger": False, "enable_checkpointing": False} | kwargs))


def weights_of(module) -> torch.Tensor:
    """Return a copy of all parameters as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in module.net.parameters()])


# --- processes that share a batch ---------------------------------------------------------------------------------


def step_of_a_process(parts, rank: int, processes: int, step: int = 5) -> tuple[torch.Tensor, int, float]:
    """Return what the net of one process gets in a training step, the seed of its draws, and the loss."""
    module = parts.classifier(parts.plan())
    state = {"world_size": processes, "global_rank": rank, "accumulate_grad_batches": 1, "global_step": step}
    module.log_every = 50
    module._trainer = SimpleNamespace(**state)
    batch = torch.from_numpy(parts.images.train_images[:64]), torch.from_numpy(parts.images.train_labels[:64])
    loss = module.training_step(module.pipeline.chunk(*batch, epoch=0, step=step), step)
    return module.net.inputs.pop(), module.net.seeds.pop(), loss.item()


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_train_on_slices_of_the_batch_of_a_single_process(processes, monkeypatch):
    parts = parts_of("recipe=deit", "budget=8steps", net=SeededNet, monkeypatch=monkeypatch)
    images, seed, loss = step_of_a_process(parts, 0, 1)
    slices, seeds, losses = zip(*(step_of_a_process(parts, rank, processes) for rank in range(processes)), strict=True)
    assert torch.equal(torch.cat(slices), images) and all(len(part) == 64 // processes for part in slices)
    assert sum(losses) / processes == pytest.approx(loss, rel=1e-6)
    assert seed == draw_seed(3, 5), "a single process draws as before"
    assert len({seed, *seeds}) == processes + 1, "dropout and drop path draw separately in each process"
    assert step_of_a_process(parts, 1, processes)[1] == seeds[1] != step_of_a_process(parts, 1, processes, 6)[1]


def data_with_trainer(parts, **kwargs):
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    state = {"world_size": 1, "accumulate_grad_batches": 1, "callbacks": [], "strategy": strategy}
    parts.data.trainer = SimpleNamespace(**(state | kwargs))
    return parts.data


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"world_size": 3}, r"recipe\.batch_size=64: must be a multiple of 3, the processes that share it"),
        (
            {"accumulate_grad_batches": 26},
            r"accumulate_grad_batches=26: must be at most 25, the batches of 64 in 1600 training images",
        ),
        (
            {"callbacks": [GradientAccumulationScheduler({0: 1, 4: 2})]},
            r"GradientAccumulationScheduler: must be accumulate_grad_batches=N, one value for all epochs",
        ),
    ],
)
def test_trainer_that_cannot_split_the_batches_is_rejected(state, message):
    data = data_with_trainer(parts_of("recipe=plain", "budget=8steps", "data.holdout=400"), **state)
    with pytest.raises(ConfigError, match=f"^{message}$"):
        data.setup("fit")
    data.setup("test")


# --- accumulation of gradients ------------------------------------------------------------------------------------


class Memory(Logger):
    """Keeps what is logged: (step, metrics)."""

    name, version = "memory", 0

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))

    def log_hyperparams(self, *_, **__):
        pass


def test_accumulated_batches_draw_anew_and_the_loss_is_their_mean(monkeypatch):
    parts, losses, logger = (
        parts_of("recipe=deit", "budget=60steps", net=SeededNet, monkeypatch=monkeypatch),
        [],
        Memory(),
    )
    plan = parts.plan(accumulate_grad_batches=2)
    module = parts.classifier(plan)

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, *_):
            losses.append(2 * outputs["loss"].item())  # Lightning divides by the accumulated batches

    kwargs = {"accumulate_grad_batches": 2, "callbacks": [Watch()], "log_every_n_steps": 1, "limit_val_batches": 0}
    trainer(plan, logger=logger, **kwargs).fit(module, parts.data)
    assert len(losses) == len(set(module.net.seeds)) == 2 * 60
    assert module.net.seeds[::2] == [draw_seed(3, step) for step in range(60)], "a step's first draws are as before"
    logged = {step: metrics["train/loss"] for step, metrics in logger.rows if "train/loss" in metrics}
    assert logged
    for begin, end in zip([0, *logged], logged, strict=False):
        batches = losses[2 * begin : 2 * end]
        assert logged[end] == pytest.approx(sum(batches) / len(batches), rel=1e-5)


@pytest.mark.parametrize("ingredient", ["ema", "lookahead"])
def test_accumulated_batches_train_as_one_large_batch(ingredient):
    options = ["recipe=deit", *NO_DRAWS, "budget=6steps", "arch=convnext", "data.holdout=400"]
    options += ["ingredient=[lookahead]"] if ingredient == "lookahead" else []

    def trained(batch_size, accumulate):
        parts = parts_of(*options, f"recipe.batch_size={batch_size}")
        plan = parts.plan(accumulate_grad_batches=accumulate)
        module = parts.classifier(plan)
        trainer(plan, accumulate_grad_batches=accumulate, limit_val_batches=0).fit(module, parts.data)
        return plan, module.net.state_dict()

    plan, weights = trained(192, 1)
    accumulated_plan, accumulated = trained(64, 3)
    assert accumulated_plan == plan and plan.batch_size == 192
    torch.testing.assert_close(accumulated, weights, rtol=1e-3, atol=1e-5)


def messages(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "minuteloop"]


def test_plan_counts_optimizer_steps_of_all_accumulated_batches(caplog):
    parts = parts_of("recipe=plain", "budget=2ep", "data.holdout=300")  # 26.6 batches of 64
    plan = parts.plan(accumulate_grad_batches=4)
    assert (plan.steps, plan.batch_size) == (2 * 6, 256) and plan.epochs == pytest.approx(12 * 256 / 1700)
    assert plan.lr == parts_of("recipe=plain", "budget=2ep", "recipe.batch_size=256", "data.holdout=300").plan().lr
    run, module = trainer(plan, accumulate_grad_batches=4, limit_val_batches=0), parts.classifier(plan)
    with caplog.at_level(logging.WARNING, "minuteloop"):
        run.fit(module, parts.data)
    assert (run.global_step, run.current_epoch, run.num_training_batches) == (12, 2, 24) and not messages(caplog)
    plan = parts.plan()
    with caplog.at_level(logging.WARNING, "minuteloop"):
        pl.Trainer(max_steps=1, accumulate_grad_batches=4, logger=False, enable_checkpointing=False, **QUIET).fit(
            parts.classifier(plan), parts.data
        )
    assert messages(caplog) == [
        "a step trains on 4 x 64 images, but the plan counts steps of 64: its epochs, lr and strength do not hold; "
        "use parts.plan(accumulate_grad_batches=4)"
    ]


# --- 16-mixed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kwargs"),
    [
        (["ingredient=[sgd]"], {"gradient_clip_val": 0.1}),
        (["ingredient=[sgd]"], {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}),
        (["ingredient=[sgd,agc]"], {}),
        (["ingredient=[muon]"], {"gradient_clip_val": 0.1}),
    ],
    ids=["norm", "value", "agc", "not fused"],
)
def test_scaled_gradients_are_unscaled_before_they_are_clipped(options, kwargs):
    """A clipped run in float16 ends where one in float32 does."""

    def trained(**precision):
        parts = parts_of("recipe=plain", "recipe.lr=0.1", *options, "arch=convnext", "budget=4steps")
        module = parts.classifier(parts.plan())
        start = weights_of(module)
        trainer(module.plan, limit_val_batches=0, **kwargs, **precision).fit(module, parts.data)
        return weights_of(module) - start

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    update = trained(plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])
    expected = trained()
    assert (update - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize(("algorithm", "order"), [("norm", 2), ("value", float("inf"))])
def test_gradients_are_clipped_by_the_algorithm_of_the_trainer(algorithm, order):
    parts, norms = parts_of("recipe=plain", "budget=3steps"), []

    class Watch(pl.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer):
            gradients = [parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None]
            if gradients:
                norms.append(torch.cat(gradients).norm(p=order).item())

    clip = {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": algorithm}
    module = parts.classifier(parts.plan())
    trainer(module.plan, callbacks=[Watch()], limit_val_batches=0, **clip).fit(module, parts.data)
    assert norms == pytest.approx([1e-3] * len(norms), rel=1e-3) and len(norms) >= 2


# --- checkpoints and predictions ----------------------------------------------------------------------------------


def half_run(**kwargs) -> tuple:
    """Return a module, its data and its trainer, for 40 steps with EMA and a batch norm of its own eps."""
    options = ["recipe.callbacks.ema.window=0.5", "ingredient=[batch_norm]", "data.holdout=400", "budget=40steps"]
    parts = parts_of("recipe=deit", *options)
    module = parts.classifier(parts.plan())
    validation = {"val_check_interval": 20, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    return module, parts.data, trainer(module.plan, **validation, **kwargs)


def val_metrics(metrics: dict) -> list[float]:
    return [float(metrics[name]) for name in ("val/acc", "val/loss")]


@pytest.fixture(scope="module")
def halfway(tmp_path_factory) -> SimpleNamespace:
    """The checkpoints that a run saves after step 20 of 40 in several ways, its metrics of then, and its end."""
    folder, metrics = tmp_path_factory.mktemp("checkpoints"), []

    class SaveInValidation(pl.Callback):
        def on_validation_end(self, trainer, module):
            metrics.append(val_metrics(trainer.callback_metrics))
            for name, weights_only in (("in_validation", False), ("in_validation_weights", True)):
                trainer.save_checkpoint(folder / name / f"step={trainer.global_step}.ckpt", weights_only)

    save = {"filename": "{step}", "monitor": "step", "save_top_k": -1}
    checkpoints = [
        ModelCheckpoint(folder / "full", mode="max", **save),
        ModelCheckpoint(folder / "weights", mode="min", save_weights_only=True, **save),
    ]
    module, data, run = half_run(callbacks=[SaveInValidation(), *checkpoints], enable_checkpointing=True)
    run.fit(module, data)
    return SimpleNamespace(module=module, data=data, run=run, metrics=metrics[0], folder=folder)


KINDS = ["full", "weights", "in_validation", "in_validation_weights"]


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_evaluates_to_the_metrics_of_its_run(halfway, kind):
    """The metrics are those of EMA: in a new process and in the trainer of the run, then and later."""
    for module, data, run in (half_run(), (halfway.module, halfway.data, halfway.run)):
        for path in (halfway.folder / kind / "step=20.ckpt", None):  # None: the module as it is now
            assert val_metrics(run.validate(module, data, ckpt_path=path, verbose=False)[0]) == halfway.metrics


@pytest.mark.parametrize("kind", KINDS)
def test_module_is_loaded_with_the_ema_of_a_checkpoint(halfway, kind):
    module, data, run = half_run()
    path = halfway.folder / kind / "step=20.ckpt"
    parts = {"net": module.net, "ingredients": module.ingredients, "plan": module.plan, "dataset": data.dataset}
    loaded = Classifier.load_from_checkpoint(path, **parts)
    assert val_metrics(run.validate(loaded, data, verbose=False)[0]) == halfway.metrics


@pytest.mark.parametrize("kind", ["full", "in_validation"])
def test_training_continues_from_a_checkpoint_bit_for_bit(halfway, kind):
    module, data, run = half_run()
    run.fit(module, data, ckpt_path=halfway.folder / kind / "step=20.ckpt")
    uninterrupted, data, other = half_run()
    other.fit(uninterrupted, data)
    assert run.global_step == 40
    torch.testing.assert_close(module.state_dict(), uninterrupted.state_dict(), rtol=0, atol=0)


def test_predictions_are_the_logits_of_the_test_images(halfway):
    path = halfway.folder / "full" / "step=20.ckpt"
    module, data, run = half_run()
    accuracy = run.test(module, data, ckpt_path=path, verbose=False)[0]["test/acc"]
    module, data, run = half_run()
    logits = torch.cat(run.predict(module, data, ckpt_path=path))
    labels = torch.from_numpy(data.dataset.test_labels)
    assert logits.shape == (len(labels), 10) and logits.dtype == torch.float32
    assert (logits.argmax(1) == labels).float().mean().item() == pytest.approx(accuracy)
