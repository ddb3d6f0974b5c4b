"""Cost of training steps: our Trainer and a bare loop, our layers and torch's, our data path and others'."""

import contextlib
import copy
import dataclasses
from argparse import Namespace
from collections.abc import Callable, Iterator
from importlib import metadata
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from benches.bare_loop import BareLoop, training_loader
from benches.rounds import alternate, now, spread, times
from torch import nn

from minuteloop.nets import cpu_kernels
from minuteloop.recipe.augment.random_seed import reseed
from minuteloop.schema import Config
from minuteloop.training.build import build
from minuteloop.training.classifier import Classifier
from minuteloop.training.trainer import make_trainer, quiet_lightning
from minuteloop.validation import ConfigError

STOCK = {  # our layers -> the forward pass of torch's own
    cpu_kernels.DepthwiseConv: nn.Conv2d.forward,
    cpu_kernels.PatchConv: nn.Conv2d.forward,
    cpu_kernels.GELU: nn.GELU.forward,
    cpu_kernels.LayerNorm: lambda norm, x: nn.LayerNorm.forward(norm, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
}
WARMUP_STEPS = 5  # not counted: other arms' workers come to rest, the arm's own prefetching starts
EMA_WEIGHT = 0.01  # of the current parameters in their average


class Bench:
    """The parts of a config, which all arms share; each arm trains its own copy of the net."""

    def __init__(self, config: Config, steps: int) -> None:
        quiet_lightning()
        budget = f"{WARMUP_STEPS + steps}steps"
        self.parts = build(dataclasses.replace(config, budget=budget))
        self.config, self.steps, self.device = config, steps, torch.device(config.device)
        self.plan, self.bf16 = self.parts.plan(), config.precision == "bf16"
        self.label = (
            f"{config.arch.name} {config.recipe.name}, batch {config.recipe.batch_size}, strength {self.plan.strength}"
        )

    def module(self, channels_last: bool) -> Classifier:
        """Return a classifier for one arm."""
        net = copy.deepcopy(self.parts.net)
        if self.config.compile:
            net.compile()  # the copy of a compiled net is not compiled
        config = dataclasses.replace(self.config, channels_last=channels_last)
        return dataclasses.replace(self.parts, net=net, config=config).classifier(self.plan)

    def with_trainer(self) -> Callable[[], float]:
        """Return an arm that trains as a run does, with Lightning, and returns seconds a step."""
        module, steady = self.module(self.config.channels_last), SteadySeconds(self.device)

        def arm() -> float:
            self.parts.data.pipeline = module.pipeline
            trainer = make_trainer(
                self.config, max_steps=self.plan.steps, callbacks=[steady], logger=False, limit_val_batches=0
            )
            trainer.fit(module, self.parts.data)
            return steady.seconds / self.steps

        return arm

    def bare(
        self,
        batches: Callable[[Classifier], Iterator],
        bf16: bool,
        channels_last: bool,
        restart: bool = False,
    ) -> Callable[[], float]:
        """Return an arm that trains in a bare loop and returns seconds a step.

        `batches(module)` iterates over (normalized images, soft targets). With `restart` every round begins with an
        epoch's first batch, as a trainer does, so that both augment the same number of chunks.
        """
        module = self.module(channels_last).to(self.device)
        endless = None if restart else batches(module)

        def arm() -> float:
            source, loop = endless or batches(module), BareLoop(module, bf16, self.config.recipe.clip_grad)
            current = [tensor for tensor in module.net.state_dict().values() if tensor.is_floating_point()]
            averages = [tensor.clone() for tensor in current]
            for step in range(WARMUP_STEPS + self.steps):
                if step == WARMUP_STEPS:
                    begin = now(self.device)
                inputs, targets = next(source)
                inputs = inputs.to(self.device, memory_format=module.pipeline.memory_format, non_blocking=True)
                module.train_loss += loop.step(inputs, targets.to(self.device, non_blocking=True))
                if self.parts.ingredients.callbacks:  # EMA, in most recipes
                    torch._foreach_lerp_(averages, current, EMA_WEIGHT)
            return (now(self.device) - begin) / self.steps

        return arm

    def own_batches(self, module: Classifier) -> Iterator:
        """Yield a run's batches: from the device loader, with the random draws of each step."""
        loader, step = training_loader(self.parts, module), 0
        while True:
            for batch in loader:
                reseed(self.config.seed, step)
                yield module.pipeline.batch(*batch, step)
                step += 1

    def rows(self, arms: dict[str, Callable[[], float]], rounds: int, base: str) -> Iterator[dict]:
        """Yield milliseconds a step of each arm, and their ratio to those of the arm `base`."""
        seconds = alternate(arms, rounds)
        for arm, figures in seconds.items():
            yield {
                "arm": arm,
                "config": f"{self.label}, {self.config.precision}",
                "ms_a_step": spread([1000 * figure for figure in figures]),
                f"of_{base}": times(figures, seconds[base]),
                "steps": self.steps,
            }


class SteadySeconds(pl.Callback):
    """Measures the seconds from the end of the last warmup step to the end of the last step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == WARMUP_STEPS:
            self.begin = now(self.device)
        if trainer.global_step == trainer.max_steps:
            self.seconds = now(self.device) - self.begin


def overhead(config: Config, args: Namespace) -> Iterator[dict]:
    """Yield milliseconds a step of a Lightning Trainer and of a bare loop, and their ratio to the Trainer's."""
    bench = Bench(config, args.steps)
    bare = bench.bare(bench.own_batches, bench.bf16, config.channels_last, restart=True)
    yield from bench.rows({"trainer": bench.with_trainer(), "bare": bare}, args.rounds, "trainer")


def stock(config: Config, args: Namespace) -> Iterator[dict]:
    """Yield milliseconds a step of a bare loop with our layers, and with torch's own in place of one of them or all.

    The last arm has no depthwise convolutions: a lower bound for every implementation of them.
    """
    bench = Bench(config, args.steps)

    def arm(forwards: dict[type, Callable]) -> Callable[[], float]:
        train = bench.bare(bench.own_batches, bench.bf16, config.channels_last)

        def train_patched() -> float:
            with contextlib.ExitStack() as stack:
                for cls, forward in forwards.items():
                    stack.enter_context(patch.object(cls, "forward", forward))
                return train()

        return train_patched

    arms = {"ours": arm({}), **{f"stock {cls.__name__}": arm({cls: forward}) for cls, forward in STOCK.items()}}
    arms |= {"stock, all": arm(STOCK), "no DepthwiseConv": arm({cpu_kernels.DepthwiseConv: lambda conv, x: x})}
    yield from bench.rows(arms, args.rounds, "ours")


def step(config: Config, args: Namespace) -> Iterator[dict]:
    """Yield images/s of data and training together, and their ratio to torchvision's (fp32, NCHW).

    All arms train the same net with the same optimizer, loss and EMA, and augment by the same list, each with its own
    library; the peers use `args.workers` processes.

    Raises:
        ConfigError: if a peer is not installed.
    """
    try:
        from benches.loaders import Loaders
    except ImportError as error:
        raise ConfigError(f"bench step needs {error.name}: pip install torchvision timm") from error

    bench = Bench(config, args.steps)
    peers = Loaders(config.recipe, bench.parts.images, bench.parts.data.train_indices, bench.device, args.workers)
    layout = " channels_last" if config.channels_last else ""
    arms = {
        f"ours, {config.precision}{layout}": bench.with_trainer(),
        "torchvision, fp32 NCHW": bench.bare(lambda _: peers.torchvision(), False, False),
        f"torchvision, {config.precision} channels_last": bench.bare(lambda _: peers.torchvision(), bench.bf16, True),
        "timm, fp32 NCHW": bench.bare(lambda _: peers.timm(), False, False),
    }
    speeds = {
        arm: [config.recipe.batch_size / seconds for seconds in figures]
        for arm, figures in alternate(arms, args.rounds).items()
    }
    for arm, figures in speeds.items():
        yield {
            "arm": arm,
            "config": bench.label,
            "augmentation": list(config.recipe.batch),
            "images_a_second": spread(figures),
            "times_torchvision": times(figures, speeds["torchvision, fp32 NCHW"]),
            "steps": args.steps,
            "workers": args.workers,
            "peers": {name: metadata.version(name) for name in ("torchvision", "timm", "pillow")},
        }
