"""Start-up: seconds from Enter to the end of the first training step, in fresh processes, item by item.

A child process runs the command line as train.py does. Each moment is attributed to the innermost item in progress: an
import, by its package, or one of the CALLS below.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

IMPORTS = {  # item -> packages; the packages that these import count for them
    "import torch": ["torch"],
    "import torch._dynamo": ["torch._dynamo", "torch._inductor"],
    "import lightning": ["pytorch_lightning", "lightning_fabric"],
    "import torchmetrics": ["torchmetrics"],
    "import wandb": ["wandb"],
    "import hydra": ["hydra", "omegaconf"],
    "import minuteloop": ["minuteloop"],
}
CALLS = {  # module -> function -> item
    "minuteloop.training.run": {"train": "other"},
    "minuteloop.training.calibrate": {"measure_rate": "calibrate"},
    "minuteloop.hardware": {"resolve_auto": "other"},
    "minuteloop.data.cifar": {"load": "data"},
    "minuteloop.nets.net": {"build_net": "net"},
    "minuteloop.nets.flops": {"count": "net"},
    "minuteloop.records.wandb_logger": {"start_wandb": "wandb init"},
}
ITEMS = ["interpreter", "compose and check", *IMPORTS, "data", "net", "wandb init", "calibrate", "first step", "other"]


def startup(config, args: Namespace) -> Iterator[dict]:
    """Yield a row for logger=none and logger=wandb: seconds to the end of the first step, in total and by item."""
    from benches.rounds import alternate, spread

    overrides = [override for override in args.overrides if not override.startswith("logger=")]
    arms = {f"logger={name}": functools.partial(measure, [*overrides, f"logger={name}"]) for name in ("none", "wandb")}
    for arm, measured in alternate(arms, args.rounds).items():
        yield {
            "arm": arm,
            "seconds": {item: spread([seconds[item] for seconds in measured]) for item in ("total", *ITEMS)},
        }


def measure(overrides: list[str]) -> dict[str, float]:
    """Start a run in a fresh process, which ends after its first step; return seconds by item."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [sys.executable, __file__, *overrides, "hydra.run.dir=run"]
        environment = os.environ | {"MINUTELOOP_SPAWNED": str(time.time()), "WANDB_MODE": "offline"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: bench startup: {done.stderr.strip() or done.stdout.strip()}")
        seconds = json.loads((Path(folder) / "seconds.json").read_text())
    return {"total": sum(seconds.values())} | {item: seconds.get(item, 0.0) for item in ITEMS}


# --- the child process ------------------------------------------------------------------------------------------


class Ledger:
    """Attributes this process's seconds to items; the innermost item in progress receives them."""

    def __init__(self, begin: float) -> None:
        """`begin` is the time.time() at which the parent started this process."""
        self.seconds, self.stack, self.since = {}, ["interpreter"], begin

    def settle(self) -> None:
        """Add the time since the last call to the item in progress."""
        now = time.time()
        self.seconds[self.stack[-1]] = self.seconds.get(self.stack[-1], 0.0) + now - self.since
        self.since = now

    def timed(self, item: str, function: Callable) -> Callable:
        """Return `function`, whose seconds count for `item`."""

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            self.settle()
            self.stack.append(item)
            try:
                return function(*args, **kwargs)
            finally:
                self.settle()
                self.stack.pop()

        return wrapper


class TimedFinder:
    """The first finder of sys.meta_path; times the execution of every module, and the CALLS inside it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.items = {package: item for item, packages in IMPORTS.items() for package in packages}

    def find_spec(self, name, path, target=None):
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((spec for finder in others if (spec := finder.find_spec(name, path, target))), None)
        if spec is None or not hasattr(spec.loader, "__dict__") or isinstance(spec.loader, type):
            return spec  # built in
        execute = spec.loader.exec_module
        parts = name.split(".")
        owners = (self.items.get(".".join(parts[:length])) for length in range(len(parts), 0, -1))
        if item := next(filter(None, owners), None):
            execute = self.ledger.timed(item, execute)

        def exec_module(module) -> None:
            execute(module)
            for function, item in CALLS.get(name, {}).items():
                setattr(module, function, self.ledger.timed(item, getattr(module, function)))
            if name == "minuteloop.training.timing":
                self.end_after_first_step(module.Clock)

        spec.loader.exec_module = exec_module
        return spec

    def end_after_first_step(self, clock: type) -> None:
        """Replace the hooks of the run's Clock, a Lightning callback."""

        def on_train_start(*_) -> None:
            self.ledger.settle()
            self.ledger.stack.append("first step")

        def on_train_batch_end(*_) -> None:
            import torch

            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            self.ledger.settle()
            Path("seconds.json").write_text(json.dumps(self.ledger.seconds))
            os._exit(0)

        clock.on_train_start, clock.on_train_batch_end = on_train_start, on_train_batch_end


def child() -> None:
    ledger = Ledger(float(os.environ["MINUTELOOP_SPAWNED"]))
    ledger.settle()
    ledger.stack = ["other"]
    sys.meta_path.insert(0, TimedFinder(ledger))
    from minuteloop import cli

    ledger.timed("compose and check", cli.train)()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))  # before an installed minuteloop
    child()
