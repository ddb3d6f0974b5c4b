"""Train a config in a bare loop, without Lightning, to compare seconds and accuracy with those of train.py.

    python scripts/by_hand.py arch=airbench recipe=airbench94_muon size=tiny budget=8ep data.holdout=0

Prints one JSON row: training seconds, counted as train.py does without compilation, and test accuracy. Net, optimizer,
augmentation and frozen layers are the recipe's; other callbacks and evaluations during training are left out.
"""

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # before an installed minuteloop

import torch
from benches.bare_loop import BareLoop, training_loader
from benches.rounds import now

from minuteloop import hardware
from minuteloop.config.compose import CONF, compose
from minuteloop.config.errors import exit_on_user_error
from minuteloop.recipe.augment.random_seed import reseed
from minuteloop.recipe.callbacks.freeze import Freeze
from minuteloop.records import environment
from minuteloop.schema import Config, parse_budget
from minuteloop.training.build import build
from minuteloop.training.classifier import Classifier
from minuteloop.validation import ConfigError

TEST_BATCH = 2000  # images


def run(config: Config) -> dict:
    """Train the config's steps or epochs and return the row.

    Raises:
        ConfigError: for a budget of time, or a progressive recipe.
    """
    if parse_budget(config.budget)[1] == "s":
        raise ConfigError(f"budget={config.budget}: must be steps or epochs (5000steps, 200ep) in a bare loop")
    if config.recipe.progressive is not None:
        raise ConfigError("recipe.progressive: must be null in a bare loop")
    parts = build(config)
    plan, device = parts.plan(), torch.device(config.device)
    module = parts.classifier(plan).to(device)
    loop = BareLoop(module, config.precision == "bf16", config.recipe.clip_grad)
    callbacks = [item.callback(plan.steps) for item in parts.ingredients.callbacks.values() if isinstance(item, Freeze)]
    progress = SimpleNamespace(global_step=0)  # the part of a Trainer that the callbacks read
    for callback in callbacks:
        callback.on_train_start(progress, module)
    loader = training_loader(parts, module, epoch=lambda: progress.global_step // len(loader))
    uncounted = int(config.compile)  # the first step of a compiled net compiles it
    begin = now(device)
    while progress.global_step < plan.steps:
        for batch in loader:
            step = progress.global_step
            if step == uncounted:
                begin = now(device)
            for callback in callbacks:
                callback.on_train_batch_start(progress, module, batch, step)
            reseed(config.seed, step)
            loop.step(*module.pipeline.batch(*batch, step))
            progress.global_step += 1
            if progress.global_step == plan.steps:
                break
    seconds = (now(device) - begin) * plan.steps / max(plan.steps - uncounted, 1)
    accuracy = _test_accuracy(module, parts.images, device, loop.bf16)
    return {"steps": plan.steps, "train_seconds": round(seconds, 3), "test_acc": accuracy}


def _test_accuracy(module: Classifier, images, device: torch.device, bf16: bool) -> float:
    module.eval()
    test = [torch.from_numpy(array).to(device) for array in (images.test_images, images.test_labels)]
    correct = 0
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for inputs, labels in zip(*(tensor.split(TEST_BATCH) for tensor in test), strict=True):
            correct += (module(inputs).argmax(1) == labels).sum().item()
    return correct / len(images.test_labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for train.py")
    args = parser.parse_args()
    with exit_on_user_error(CONF, args.overrides):
        config = compose(args.overrides)
        hardware.keep_freed_memory()
        config = hardware.resolve_auto(config)
        row = {"arm": "by hand", "seed": config.seed, **run(config), "overrides": args.overrides}
    print(json.dumps(row | {"host": environment.describe_host(config.device), "versions": environment.versions()}))


if __name__ == "__main__":
    main()
