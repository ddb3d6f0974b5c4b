"""Cost of each ingredient of a recipe in a training step."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import torch
from benches.rounds import alternate, seconds_per_call, spread

from minuteloop.config import instantiate
from minuteloop.config.compose import CONF, IMAGE_SIZE, compose
from minuteloop.data.cifar import load
from minuteloop.data.device_loader import CHUNK
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.recipe.param_groups import parameter_groups
from minuteloop.schema import Config, Recipe
from minuteloop.validation import ConfigError

CALLS = 20  # of an arm in a round
WEIGHT_DECAY, LR = 0.05, 1e-6
Arm = Callable[[], float]


def ingredients(config: Config, args: Namespace) -> Iterator[dict]:
    """Yield milliseconds a step for each file of conf/ingredient but tta and progressive, at the config's batch.

    Transforms, losses, optimizers, schedules and callbacks are called as in a step, on the config's net and on real
    images. Pixel transforms act on a chunk of several batches; a step counts its fraction. The cost of a regularizer is
    the difference between forward and backward with it and without.
    """
    arms: dict[str, Arm] = {}
    plain_pass = _pass(config, None)
    for file in sorted((CONF / "ingredient").glob("*.yaml")):
        try:
            recipe = compose([*args.overrides, f"ingredient=[{file.stem}]"]).recipe
            arm = _arm(_slot(file.stem), recipe, config)
        except ConfigError as error:
            yield {"arm": file.stem, "refused": str(error)}
        else:
            if arm:
                arms[file.stem] = arm
    figures = alternate(arms | {"": plain_pass}, args.rounds)
    without = figures.pop("")
    for name, seconds in figures.items():
        if _slot(name).startswith("recipe.regularizers"):
            seconds = [value - base for value, base in zip(seconds, without, strict=True)]
        yield {"arm": name, "milliseconds_a_step": spread([1000 * value for value in seconds])}


def _slot(name: str) -> str:
    """Return the key that an ingredient's file sets: the package in its first line."""
    return (CONF / "ingredient" / f"{name}.yaml").read_text().split()[2]


def _arm(slot: str, recipe: Recipe, config: Config) -> Arm | None:
    """Return a function that measures seconds a step of the ingredient at `slot`; None if training does not use it."""
    ingredient = next(
        instantiate.ingredient(node, key) for key, node in instantiate.ingredient_nodes(recipe) if key == slot
    )
    if slot in ("recipe.tta", "recipe.progressive"):
        return None
    if slot.startswith("recipe.regularizers"):
        return _pass(config, ingredient)
    if slot.startswith("recipe.batch"):
        return _transform(ingredient, config)
    batch_size, device = config.recipe.batch_size, config.device
    if slot == "recipe.schedule":
        return _timed(lambda: ingredient(0.5, 10.0), device)
    if slot == "recipe.loss":
        logits = torch.randn(batch_size, 10, device=device, requires_grad=True)
        targets = torch.rand(batch_size, 10, device=device)
        return _timed(lambda: ingredient(logits, targets).backward(), device)
    net = _net(config)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    if slot == "recipe.optimizer":
        return _timed(ingredient(parameter_groups(net, WEIGHT_DECAY), LR).step, device)
    return _callback(ingredient, net, device)


def _callback(ingredient, net, device: str) -> Arm:
    callback = ingredient.callback(10**6)
    trainer, module = SimpleNamespace(global_step=0), SimpleNamespace(net=net, phase=lambda step: 0.0)
    optimizer = SimpleNamespace(param_groups=parameter_groups(net, WEIGHT_DECAY))
    callback.on_train_start(trainer, module)

    def step() -> None:
        callback.on_train_batch_start(trainer, module, None, 0)
        callback.on_before_optimizer_step(trainer, module, optimizer)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, None, 0)

    return _timed(step, device)


def _transform(transform, config: Config) -> Arm:
    batch_size, device = config.recipe.batch_size, config.device
    is_chunked = transform.stage in ("source", "pixels")
    images = torch.from_numpy(load(config.data.name, config.data.root).train_images)
    count = CHUNK // batch_size * batch_size if is_chunked else batch_size
    images = images.repeat(-(-count // len(images)), 1, 1, 1)[:count].to(device)
    images = images if is_chunked else images.float()
    targets = torch.nn.functional.one_hot(torch.arange(count, device=device) % 10, 10).float()
    arguments = {"source": (images, 1, 0), "targets": (targets,)}.get(transform.stage, (images, targets))
    chunk_seconds = _timed(lambda: transform(*arguments), device)
    return lambda: chunk_seconds() * batch_size / count


def _pass(config: Config, regularizer) -> Arm:
    """Return a function that measures a forward and backward pass of the config's net, regularized."""
    net = _net(config)
    if regularizer is not None:
        regularizer(net)
    images = torch.randn(config.recipe.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, device=config.device)
    images = images.contiguous(memory_format=torch.channels_last)

    def forward_and_backward() -> None:
        with torch.autocast(config.device, torch.bfloat16, enabled=config.precision == "bf16"):
            loss = net(images).square().mean()
        loss.backward()
        net.zero_grad()

    return _timed(forward_and_backward, config.device)


def _net(config: Config):
    net = build_net(resolve(config.arch, config.size, IMAGE_SIZE, 10))
    return net.to(config.device, memory_format=torch.channels_last)


def _timed(call: Callable[[], object], device: str) -> Arm:
    return partial(seconds_per_call, call, device, CALLS)
