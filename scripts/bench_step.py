"""Training steps: our Trainer beside a bare loop, our operations beside torch's, our data beside others'."""

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from bench_rounds import alternate, now, spread, times
from torch import nn

from minuteloop.config import instantiate
from minuteloop.data.cifar import load
from minuteloop.data.datamodule import CIFARDataModule
from minuteloop.data.device_loader import DeviceLoader
from minuteloop.nets import cpu_kernels as ops
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.schema import Config
from minuteloop.training.classifier import Classifier, reseed
from minuteloop.training.plan import make_plan
from minuteloop.training.run import make_trainer, quiet_lightning

STOCK = {  # what torch has for our forms
    ops.DepthwiseConv: nn.Conv2d.forward,
    ops.PatchConv: nn.Conv2d.forward,
    ops.GELU: nn.GELU.forward,
    ops.LayerNorm: lambda norm, x: nn.LayerNorm.forward(norm, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
}
WARM = 5  # steps of an arm that are not counted: other arms' workers come to rest, its own pipeline fills


class Bench:
    """What the arms share: the images and, for each arm, the same net of its own."""

    def __init__(self, config: Config, steps: int) -> None:
        quiet_lightning()
        self.config, self.steps, self.device = config, steps, torch.device(config.device)
        self.images = load(config.data.name, config.data.root)
        self.data = CIFARDataModule(self.images, config.recipe.batch_size, config.data.holdout)
        self.ingredients = instantiate.ingredients(config.recipe)
        rule, train_images = self.ingredients.optimizer.auto_lr, len(self.data.train_indices)
        self.plan = make_plan(f"{WARM + steps}steps", config.recipe, rule, train_images)
        self.net = build_net(resolve(config.arch, config.size, 32, len(self.images.classes)))
        self.told = (
            f"{config.arch.name} {config.recipe.name}, batch {config.recipe.batch_size}, strength {self.plan.strength}"
        )

    def module(self, channels_last: bool) -> Classifier:
        """A classifier for one arm."""
        fitted = self.ingredients.at_strength(self.plan.strength)
        net = copy.deepcopy(self.net)
        if self.config.compile:
            net.compile()
        return Classifier(net, fitted, self.plan, self.images, channels_last=channels_last)

    def with_trainer(self) -> Callable[[], float]:
        """A round of steps as a run takes them, Lightning and all -> seconds a step."""
        module, steady = self.module(self.config.channels_last), Steady(self.device)

        def arm() -> float:
            trainer = make_trainer(
                self.config, max_steps=self.plan.steps, callbacks=[steady], logger=False, limit_val_batches=0
            )
            trainer.fit(module, self.data)
            return steady.seconds / self.steps

        return arm

    def bare(
        self, batches: Callable[[Classifier], Iterator], bf16: bool, channels_last: bool, afresh: bool = False
    ) -> Callable[[], float]:
        """A round of the same steps written out, on `batches` of (normalised images, targets) -> seconds a step.

        `afresh`: from an epoch's first batch in each round, as a trainer does, so that both prepare as many chunks.
        """
        module = self.module(channels_last)
        module.to(self.device)
        kept = None if afresh else batches(module)

        def arm() -> float:
            source = kept or batches(module)
            module.train()
            module.setup("fit")
            current = [tensor for tensor in module.net.state_dict().values() if tensor.is_floating_point()]
            averages = [tensor.clone() for tensor in current]
            made = module.configure_optimizers()
            optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
            for step in range(WARM + self.steps):
                if step == WARM:
                    begin = now(self.device)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    inputs, targets = next(source)
                    inputs = inputs.to(self.device, memory_format=module.memory_format, non_blocking=True)
                    targets = targets.to(self.device, non_blocking=True)
                    loss = self.ingredients.loss(module.net(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                module.train_loss += loss.detach()
                if self.ingredients.callbacks:
                    torch._foreach_lerp_(averages, current, 0.01)
            return (now(self.device) - begin) / self.steps

        return arm

    def own_batches(self, module: Classifier) -> Iterator:
        """As a run's: from the device loader, augmented there, with the draws of each step."""
        arrays = (self.images.train_images, self.images.train_labels)
        tensors = [torch.from_numpy(array).to(self.device) for array in arrays]
        indices = self.data.train_indices.to(self.device)
        loader = DeviceLoader(*tensors, indices, self.config.recipe.batch_size, seed=0, prepare=module.prepare)
        step = 0
        while True:
            for batch in loader:
                reseed(0, step)
                yield module.finish(*batch)
                step += 1

    def rows(self, arms: dict[str, Callable[[], float]], rounds: int, base: str) -> Iterator[dict]:
        """Milliseconds a step of each arm, in turn, and how many times those of the arm `base` they are."""
        seconds = alternate(arms, rounds)
        for arm, figures in seconds.items():
            yield {
                "arm": arm,
                "config": f"{self.told}, {self.config.precision}",
                "ms_a_step": spread([1000 * figure for figure in figures]),
                f"of_{base}": times(figures, seconds[base]),
                "steps": self.steps,
            }


class Steady(pl.Callback):
    """The seconds from the end of step WARM to that of the last."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == WARM:
            self.begin = now(self.device)
        if trainer.global_step == trainer.max_steps:
            self.seconds = now(self.device) - self.begin


def overhead(config: Config, args) -> Iterator[dict]:
    """Milliseconds a step of a Lightning Trainer and of a bare loop, and the bare loop's share of the Trainer's."""
    bench = Bench(config, args.steps)
    bf16 = config.precision == "bf16"
    by_hand = bench.bare(bench.own_batches, bf16, config.channels_last, afresh=True)
    arms = {"trainer": bench.with_trainer(), "bare": by_hand}
    yield from bench.rows(arms, args.rounds, "trainer")


def stock(config: Config, args) -> Iterator[dict]:
    """Milliseconds a step of a bare loop with our forms of operations, with torch's own for one, and for all.

    And without depthwise convolution, which no form of it can beat.
    """
    bench = Bench(config, args.steps)

    def arm(forwards: dict[type, Callable]) -> Callable[[], float]:
        run = bench.bare(bench.own_batches, config.precision == "bf16", config.channels_last)

        def round_() -> float:
            with contextlib.ExitStack() as stack:
                for cls, forward in forwards.items():
                    stack.enter_context(patch.object(cls, "forward", forward))
                return run()

        return round_

    arms = {"ours": arm({}), **{f"stock {cls.__name__}": arm({cls: forward}) for cls, forward in STOCK.items()}}
    arms |= {"stock, all": arm(STOCK), "no DepthwiseConv": arm({ops.DepthwiseConv: lambda conv, x: x})}
    yield from bench.rows(arms, args.rounds, "ours")


def step(config: Config, args) -> Iterator[dict]:
    """Images/s of data and training together, and how many times torchvision's (fp32, NCHW) that is.

    All arms train the same net with the same optimizer, loss and EMA, and augment by the same list, each its own way;
    the others with `args.workers` processes.
    """
    try:
        import bench_loaders
    except ImportError as error:
        sys.exit(f"error: bench step compares with torchvision and timm ({error}): pip install torchvision timm")

    bench = Bench(config, args.steps)
    made = bench_loaders.Loaders(config.recipe, bench.images, bench.data.train_indices, bench.device, args.workers)
    bf16, fast = config.precision == "bf16", f"{config.precision} channels_last"
    arms = {
        f"ours, {config.precision}{' channels_last' if config.channels_last else ''}": bench.with_trainer(),
        "torchvision, fp32 NCHW": bench.bare(made.torchvision, False, False),
        f"torchvision, {fast}": bench.bare(made.torchvision, bf16, True),
        "timm, fp32 NCHW": bench.bare(made.timm, False, False),
    }
    speeds = {
        arm: [config.recipe.batch_size / seconds for seconds in figures]
        for arm, figures in alternate(arms, args.rounds).items()
    }
    for arm, figures in speeds.items():
        yield {
            "arm": arm,
            "config": bench.told,
            "augmentation": list(config.recipe.batch),
            "images_a_second": spread(figures),
            "times_torchvision": times(figures, speeds["torchvision, fp32 NCHW"]),
            "steps": args.steps,
            "workers": args.workers,
            "peers": {name: metadata.version(name) for name in ("torchvision", "timm", "pillow")},
        }
