"""On a CUDA device: what tests on a CPU cannot show. Skipped without one."""

import copy
import types

import pytest
import pytorch_lightning as pl
import torch

import minuteloop
from minuteloop import hardware
from minuteloop.config.compose import compose
from minuteloop.data.cifar import load
from minuteloop.recipe.augment.random_seed import reseed
from minuteloop.training.build import build
from minuteloop.training.plan import LOG_EVERY
from minuteloop.training.trainer import make_trainer

pytestmark = pytest.mark.gpu
OPTIONS = ["data=sample", "logger=none", "device=cuda", "evaluations=1"]
STEPS = LOG_EVERY - 1  # the most that run without a log


@pytest.fixture
def set_sync_mode():
    """Return torch.cuda.set_sync_debug_mode: with "error", whatever makes the CPU wait for the device raises."""
    yield torch.cuda.set_sync_debug_mode
    torch.cuda.set_sync_debug_mode("default")


def make(*overrides):
    """Return the config, a classifier and data for STEPS steps at full strength, within one epoch."""
    options = [*OPTIONS, "recipe.strength=1", "recipe.batch_size=32", f"budget={STEPS}steps", *overrides]
    parts = build(hardware.resolve_auto(compose(options)))
    return parts.config, parts.classifier(parts.plan()), parts.data


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("arch", ["resnet18", "convnext"])
def test_a_run_learns_in_either_precision(tmp_path, arch, precision):
    options = [*OPTIONS, f"arch={arch}", f"precision={precision}", "recipe.batch_size=64", "budget=200steps"]
    record = minuteloop.run([*options, f"hydra.run.dir={tmp_path}/run"])
    assert record["status"] == "finished" and record["host"]["gpu"] and record["config"]["precision"] == precision
    assert record["metrics"]["test/acc"] > 0.2, "chance is 0.1"


@pytest.mark.parametrize("recipe", ["plain", "deit"])
def test_no_training_step_between_logs_waits_for_the_device(recipe, set_sync_mode):
    class ErrorOnSync(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 3:  # kernels are chosen in the first steps
                set_sync_mode("error")

        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == STEPS - 1:
                set_sync_mode("default")

    config, module, data = make(f"recipe={recipe}")
    trainer = make_trainer(config, max_steps=STEPS, callbacks=[ErrorOnSync()], logger=False, limit_val_batches=0)
    trainer.fit(module, data)
    assert trainer.global_step == STEPS and torch.isfinite(module.train_loss) and module.train_loss > 0


def test_batches_are_augmented_on_the_device_by_draws_of_seed_and_step_only(set_sync_mode):
    config, module, data = make()
    device = torch.device(config.device)
    strategy, loop = types.SimpleNamespace(root_device=device), types.SimpleNamespace(batch_idx=-1)
    data.trainer = types.SimpleNamespace(strategy=strategy, fit_loop=loop, current_epoch=0)
    module.to(device)
    data.setup("fit")
    batches, inputs = iter(data.train_dataloader()), []
    next(batches)  # the epoch's order moves to the device with the first
    images, labels = data.train[0][:64], data.train[1][:64]
    set_sync_mode("error")
    batch = next(batches)
    for step in (5, 5, 6):  # the second as in a resumed run: after other draws
        chunk = module.pipeline.chunk(images, labels, epoch=0, step=step)
        reseed(0, step)
        inputs.append(module.pipeline.batch(*chunk, step)[0])
    set_sync_mode("default")
    assert {tensor.device.type for tensor in (*batch, *inputs)} == {device.type}
    assert torch.equal(inputs[0], inputs[1]) and not torch.equal(inputs[0], inputs[2])


@pytest.mark.parametrize("arch", ["resnet18", "convnext"])
def test_logits_and_gradients_are_the_cpus_eager_and_compiled(arch):
    config, module, _ = make(f"arch={arch}", "size=nano")
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
