"""What each ingredient of a recipe costs in a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

from bench_rounds import alternate, now, spread

from minuteloop.config import instantiate
from minuteloop.config.compose import CONF, IMAGE_SIZE, compose
from minuteloop.validation import ConfigError

CALLS = 20  # of an arm a round


def ingredients(config, args) -> Iterator[dict]:
    """A row for each file in conf/ingredient but views and progressive: milliseconds a step of the config's batch.

    Transforms, losses, optimizers, schedules and callbacks are called as a step calls them, on the config's net and on
    real images; pixels change for a chunk of batches at once, of which a step has its share. A regulariser is what a
    forward and backward pass with it takes more than one without.
    """
    arms: dict[str, Callable[[], float]] = {}
    bare = _pass(config, None)
    for file in sorted((CONF / "ingredient").glob("*.yaml")):
        found = compose([*args.overrides, f"ingredient=[{file.stem}]"])
        try:
            arm = _arm(_slot(file.stem), found.recipe, config)
        except ConfigError as error:
            yield {"arm": file.stem, "refused": str(error)}
        else:
            if arm:
                arms[file.stem] = arm
    times = alternate(arms | {"": bare}, args.rounds)
    without = times.pop("")
    for name, seconds in times.items():
        if _slot(name).startswith("recipe.regularizers"):
            seconds = [one - other for one, other in zip(seconds, without, strict=True)]
        yield {"arm": name, "milliseconds_a_step": spread([1000 * value for value in seconds])}


def _slot(name: str) -> str:
    """Where an ingredient's file puts it: the package in its first line."""
    return (CONF / "ingredient" / f"{name}.yaml").read_text().split()[2]


def _arm(slot: str, recipe, config) -> Callable[[], float] | None:
    """Seconds a step of what `recipe` has in a slot, measured when called; None where it costs no training step."""
    import torch

    from minuteloop.nets.net import build_net
    from minuteloop.nets.spec import resolve
    from minuteloop.recipe.param_groups import parameter_groups

    made = {where: instantiate.ingredient(node, where) for where, node in instantiate.ingredient_nodes(recipe)}.get(
        slot
    )
    if slot in ("recipe.tta", "recipe.progressive"):
        return None
    if slot.startswith("recipe.regularizers"):
        return _pass(config, made)
    if slot.startswith("recipe.batch"):
        return _transform(made, config)
    batch, device = config.recipe.batch_size, config.device
    if slot == "recipe.loss":
        logits, targets = (
            torch.randn(batch, 10, device=device, requires_grad=True),
            torch.rand(batch, 10, device=device),
        )
        return partial(_timed, lambda: made(logits, targets).backward(), device)
    net = build_net(resolve(config.arch, config.size, IMAGE_SIZE, 10)).to(device, memory_format=torch.channels_last)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    if slot == "recipe.schedule":
        return partial(_timed, lambda: made(0.5, 10.0), device)
    if slot == "recipe.optimizer":
        return partial(_timed, made(parameter_groups(net, 0.05), 1e-6).step, device)
    callback = made.callback(10**6)
    trainer, module = SimpleNamespace(global_step=0), SimpleNamespace(net=net, phase=lambda step: 0.0)
    optimizer = SimpleNamespace(param_groups=parameter_groups(net, 0.05))
    callback.on_train_start(trainer, module)

    def step() -> None:
        callback.on_train_batch_start(trainer, module, None, 0)
        callback.on_before_optimizer_step(trainer, module, optimizer)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, None, 0)

    return partial(_timed, step, device)


def _transform(made, config) -> Callable[[], float]:
    import torch

    from minuteloop.data.cifar import load
    from minuteloop.data.device_loader import CHUNK

    batch, device = config.recipe.batch_size, config.device
    early = made.stage in ("source", "pixels")
    images = torch.from_numpy(load(config.data.name, config.data.root).train_images)
    count = CHUNK // batch * batch if early else batch
    images = images.repeat(-(-count // len(images)), 1, 1, 1)[:count].to(device)
    targets = torch.nn.functional.one_hot(torch.arange(count, device=device) % 10, 10).float()
    values = images if early else images.float()
    arguments = {"source": (values, 1, 0), "targets": (targets,)}.get(made.stage, (values, targets))
    return lambda: _timed(lambda: made(*arguments), device) * batch / count


def _pass(config, regularizer) -> Callable[[], float]:
    """Seconds of a forward and backward pass of the config's net, regularised."""
    import torch

    from minuteloop.nets.net import build_net
    from minuteloop.nets.spec import resolve

    net = build_net(resolve(config.arch, config.size, IMAGE_SIZE, 10)).to(
        config.device, memory_format=torch.channels_last
    )
    if regularizer is not None:
        regularizer(net)
    images = torch.randn(config.recipe.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, device=config.device)
    images = images.contiguous(memory_format=torch.channels_last)

    def once() -> None:
        with torch.autocast(config.device, torch.bfloat16, enabled=config.precision == "bf16"):
            loss = net(images).square().mean()
        loss.backward()
        net.zero_grad()

    return partial(_timed, once, config.device)


def _timed(call: Callable[[], object], device: str) -> float:
    begin = now(device)
    for _ in range(CALLS):
        call()
    return (now(device) - begin) / CALLS
