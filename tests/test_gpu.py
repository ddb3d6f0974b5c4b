"""On a CUDA device: what tests on a CPU cannot show. Skipped without one."""

import copy
import types

import pytest
import pytorch_lightning as pl
import torch

import minuteloop
from minuteloop import compose, hardware
from minuteloop.data.cifar import load
from minuteloop.recipe.augment.random_seed import reseed
from minuteloop.training.build import build
from minuteloop.training.classifier import LOG_EVERY
from minuteloop.training.trainer import make_trainer

pytestmark = pytest.mark.gpu
OPTIONS = ["data=sample", "logger=none", "device=cuda", "evaluations=1"]
STEPS = LOG_EVERY - 1  # the most without a log


@pytest.fixture
def sync_debug_mode():
    """sync_debug_mode("error"): from here on, everything that makes the CPU wait for the device raises."""
    yield torch.cuda.set_sync_debug_mode
    torch.cuda.set_sync_debug_mode("default")


def classifier_and_data(*overrides):
    """Return config, classifier and data for STEPS steps at full strength, in one epoch of 50."""
    options = [*OPTIONS, "recipe.strength=1", "recipe.batch_size=32", f"budget={STEPS}steps", *overrides]
    config = hardware.resolve_auto(compose(options))
    parts = build(config)
    return config, parts.classifier(parts.plan()), parts.data


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("arch", ["resnet18", "convnext"])
def test_run_learns_in_both_precisions(tmp_path, arch, precision):
    options = [*OPTIONS, f"arch={arch}", f"precision={precision}", "recipe.batch_size=64", "budget=200steps"]
    record = minuteloop.run([*options, f"hydra.run.dir={tmp_path}/run"])
    assert record["status"] == "finished" and record["host"]["gpu"] and record["config"]["precision"] == precision
    assert record["metrics"]["test/acc"] > 0.2, "chance is 0.1"


@pytest.mark.parametrize("recipe", ["plain", "deit"])
def test_training_steps_between_logs_do_not_synchronize(recipe, sync_debug_mode):
    class ForbidSynchronization(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 3:  # kernels are chosen in the first steps
                sync_debug_mode("error")

        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == STEPS - 1:
                sync_debug_mode("default")

    config, module, data = classifier_and_data(f"recipe={recipe}")
    callbacks = [ForbidSynchronization()]
    trainer = make_trainer(config, max_steps=STEPS, callbacks=callbacks, logger=False, limit_val_batches=0)
    trainer.fit(module, data)
    assert trainer.global_step == STEPS and torch.isfinite(module.train_loss) and module.train_loss > 0


def test_augmentation_on_the_device_depends_on_seed_and_step_only(sync_debug_mode):
    config, module, data = classifier_and_data()
    device = torch.device(config.device)
    strategy, loop = types.SimpleNamespace(root_device=device), types.SimpleNamespace(batch_idx=-1)
    data.trainer = types.SimpleNamespace(strategy=strategy, fit_loop=loop, current_epoch=0, lightning_module=module)
    module.to(device), data.setup("fit")
    batches, inputs = iter(data.train_dataloader()), []
    next(batches)  # copies the epoch's order to the device
    images, labels = data.train[0][:64], data.train[1][:64]
    sync_debug_mode("error")
    batch = next(batches)
    for step in (5, 5, 6):  # the second as in a resumed run: after other draws
        chunk = module.pipeline.chunk(images, labels, epoch=0, step=step)
        reseed(0, step)
        inputs.append(module.pipeline.batch(*chunk, step)[0])
    sync_debug_mode("default")
    assert {tensor.device.type for tensor in (*batch, *inputs)} == {device.type}
    assert torch.equal(inputs[0], inputs[1]) and not torch.equal(inputs[0], inputs[2])


@pytest.mark.parametrize("arch", ["resnet18", "convnext"])
def test_logits_and_gradients_equal_the_cpus_eager_and_compiled(arch):
    config, module, _ = classifier_and_data(f"arch={arch}", "size=nano")
    images, results = torch.from_numpy(load("sample").test_images[:64]), []
    for device, compiled in (("cpu", False), (config.device, False), (config.device, True)):
        twin = copy.deepcopy(module).eval().to(device)
        if compiled:
            twin.net.compile()
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            logits = twin(images.to(device))
            logits.logsumexp(1).mean().backward()
        results.append([logits, *(parameter.grad for parameter in twin.parameters())])
    for reference, *others in zip(*results, strict=True):
        for other in others:
            torch.testing.assert_close(other.cpu(), reference, atol=2e-3 * reference.abs().max().item(), rtol=0)
