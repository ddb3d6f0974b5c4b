"""A run of a config in a loop written out, without Lightning: what train.py's seconds and accuracy are held against.

    python scripts/by_hand.py arch=airbench recipe=airbench94_muon size=tiny budget=8ep data.holdout=0

Prints one JSON line: training seconds, as train.py counts them without the compiling, and test accuracy. The net, the
optimizer and the augmentation are those of the recipe, as is what it freezes; other callbacks and evaluations on the
way are left out.
"""

import argparse
import json
import sys

import torch
from bench_rounds import now

from minuteloop import hardware
from minuteloop.config import instantiate
from minuteloop.config.compose import IMAGE_SIZE, compose
from minuteloop.data.cifar import load
from minuteloop.data.datamodule import CIFARDataModule
from minuteloop.data.device_loader import DeviceLoader
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.recipe.callbacks.freeze import Freeze
from minuteloop.records import environment
from minuteloop.schema import Config
from minuteloop.training.classifier import Classifier, reseed
from minuteloop.training.plan import make_plan
from minuteloop.validation import ConfigError

TEST_BATCH = 2000


def run(config: Config) -> dict:
    """Trains the config's steps or epochs in a bare loop. Raises ConfigError for a budget of time."""
    if config.budget.endswith(("s", "min", "h")) and not config.budget.endswith("steps"):
        raise ConfigError(f"budget={config.budget}: a loop by hand takes steps or epochs")
    if config.recipe.progressive is not None:
        raise ConfigError("recipe.progressive: a loop by hand has no phases")
    device, bf16 = torch.device(config.device), config.precision == "bf16"
    images, ingredients = load(config.data.name, config.data.root), instantiate.ingredients(config.recipe)
    data = CIFARDataModule(images, config.recipe.batch_size, config.data.holdout, config.seed)
    plan = make_plan(config.budget, config.recipe, ingredients.optimizer.auto_lr, len(data.train_indices))
    torch.manual_seed(config.seed)
    net = build_net(resolve(config.arch, config.size, IMAGE_SIZE, len(images.classes)))
    net.init_from(data.first_training_images(5000))
    if config.compile:
        net.compile()
    how = {"seed": config.seed, "channels_last": config.channels_last}
    module = Classifier(net, ingredients.at_strength(plan.strength), plan, images, **how).to(device)
    module.setup("fit")
    made = module.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    freezes = [callback for callback in ingredients.callbacks if isinstance(callback, Freeze)]
    frozen = [(parameter, freeze.fraction) for freeze in freezes for parameter in freeze.parameters(net)]
    tensors = [torch.from_numpy(array).to(device) for array in (images.train_images, images.train_labels)]
    step, uncounted = 0, int(config.compile)  # the first step of a compiled net compiles it
    loader = DeviceLoader(
        *tensors,
        data.train_indices.to(device),
        config.recipe.batch_size,
        seed=config.seed,
        repeats=config.recipe.repeats,
        epoch=lambda: step // len(loader),
        prepare=module.prepare,
    )
    begin = now(device)
    while step < plan.steps:
        for batch in loader:
            if step == uncounted:
                begin = now(device)
            for parameter, fraction in frozen:
                parameter.requires_grad_(step / plan.steps < fraction)
            reseed(config.seed, step)
            inputs, targets = module.finish(*batch)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = ingredients.loss(net(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            module.configure_gradient_clipping(optimizer, config.recipe.clip_grad)
            optimizer.step()
            scheduler.step()
            step += 1
            if step == plan.steps:
                break
    seconds = (now(device) - begin) * plan.steps / max(plan.steps - uncounted, 1)
    net.eval()
    test = [torch.from_numpy(array).to(device) for array in (images.test_images, images.test_labels)]
    right = 0
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for shown, labels in zip(*(tensor.split(TEST_BATCH) for tensor in test), strict=True):
            right += (module(shown).argmax(1) == labels).sum().item()
    return {"steps": plan.steps, "train_seconds": round(seconds, 3), "test_acc": right / len(images.test_labels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as train.py takes them")
    args = parser.parse_args()
    try:
        config = compose(args.overrides)
        hardware.keep_freed_memory()
        config = hardware.resolve_auto(config)
        row = {"arm": "by hand", "seed": config.seed, **run(config), "overrides": args.overrides}
    except ConfigError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(row | {"host": environment.describe_host(config.device), "versions": environment.versions()}))


if __name__ == "__main__":
    main()
