"""Start-up: the seconds from Enter to the end of the first training step, in fresh processes, item by item.

A child runs the command line as train.py does, with every moment booked on the innermost thing that is going on: an
import, by the package it belongs to, or one of the calls below.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORTS = {  # item -> packages; what these import beside each other is theirs
    "import torch": ["torch"],
    "import torch._dynamo": ["torch._dynamo", "torch._inductor"],
    "import lightning": ["pytorch_lightning", "lightning_fabric"],
    "import torchmetrics": ["torchmetrics"],
    "import wandb": ["wandb"],
    "import hydra": ["hydra", "omegaconf"],
    "import minuteloop": ["minuteloop"],
}
CALLS = {  # module -> function -> item
    "minuteloop.training.run": {"train": "other", "measure_rate": "calibrate"},
    "minuteloop.hardware": {"resolve_auto": "other"},
    "minuteloop.data.cifar": {"load": "data"},
    "minuteloop.nets.net": {"build_net": "net"},
    "minuteloop.nets.flops": {"count": "net"},
    "minuteloop.records.wandb_logger": {"start_wandb": "wandb init"},
}
ITEMS = ["interpreter", "compose and check", *IMPORTS, "data", "net", "wandb init", "calibrate", "first step", "other"]


def startup(config, args):
    """A row for each logger: seconds from Enter to the end of the first training step, in all and by item."""
    from bench_rounds import alternate, spread

    plain = [override for override in args.overrides if not override.startswith("logger=")]
    arms = {f"logger={name}": functools.partial(measure, [*plain, f"logger={name}"]) for name in ("none", "wandb")}
    for arm, measured in alternate(arms, args.rounds).items():
        yield {
            "arm": arm,
            "seconds": {item: spread([seconds[item] for seconds in measured]) for item in ("total", *ITEMS)},
        }


def measure(overrides: list[str]) -> dict[str, float]:
    """Seconds by item of one fresh process that starts a run and ends after its first step."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [sys.executable, __file__, *overrides, "hydra.run.dir=run"]
        spawned = {"MINUTELOOP_SPAWNED": str(time.time()), "WANDB_MODE": "offline"}
        done = subprocess.run(command, cwd=folder, env=os.environ | spawned, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: bench startup: {done.stderr.strip() or done.stdout.strip()}")
        seconds = json.loads((Path(folder) / "seconds.json").read_text())
    return {"total": sum(seconds.values())} | {item: seconds.get(item, 0.0) for item in ITEMS}


# --- the child --------------------------------------------------------------------------------------------------


class Ledger:
    """Books this process's seconds on items; the innermost that is entered gets them."""

    def __init__(self, begun: float) -> None:
        self.seconds, self.entered, self.since = {}, ["interpreter"], begun

    def book(self) -> None:
        now = time.time()
        self.seconds[self.entered[-1]] = self.seconds.get(self.entered[-1], 0.0) + now - self.since
        self.since = now

    def on(self, item: str, function):
        """`function`, whose seconds go to `item`."""

        @functools.wraps(function)
        def booked(*args, **kwargs):
            self.book()
            self.entered.append(item)
            try:
                return function(*args, **kwargs)
            finally:
                self.book()
                self.entered.pop()

        return booked


class Watch:
    """A finder, asked before all others, that books every module's execution and the CALLS inside it."""

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
            execute = self.ledger.on(item, execute)

        def exec_module(module):
            execute(module)
            for function, item in CALLS.get(name, {}).items():
                setattr(module, function, self.ledger.on(item, getattr(module, function)))
            if name == "minuteloop.training.timing":
                self.end_after_a_step(module.Clock)

        spec.loader.exec_module = exec_module
        return spec

    def end_after_a_step(self, clock) -> None:
        def on_train_start(*_):
            self.ledger.book()
            self.ledger.entered.append("first step")

        def on_train_batch_end(*_):
            import torch

            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            self.ledger.book()
            Path("seconds.json").write_text(json.dumps(self.ledger.seconds))
            os._exit(0)

        clock.on_train_start, clock.on_train_batch_end = on_train_start, on_train_batch_end


def child() -> None:
    ledger = Ledger(float(os.environ["MINUTELOOP_SPAWNED"]))
    ledger.book()
    ledger.entered = ["other"]
    sys.meta_path.insert(0, Watch(ledger))
    from minuteloop import cli as command

    ledger.on("compose and check", command.main)()


if __name__ == "__main__":
    child()
