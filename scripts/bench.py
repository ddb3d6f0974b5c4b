"""Measure what things cost; print one JSON row per measurement, with the hardware and the versions.

    python scripts/bench.py overhead     # ms of a step: our Trainer and a bare loop with the same arithmetic
    python scripts/bench.py step         # images/s of training with our data, torchvision's and timm's
    python scripts/bench.py augment      # images/s of RandAugment and TrivialAugment alone: ours and four peers'
    python scripts/bench.py pipeline     # images/s of the data path alone: ours and loaders with worker processes
    python scripts/bench.py archs        # images/s of every architecture, with its params and MACs
    python scripts/bench.py ingredients  # ms that each ingredient of a recipe adds to a training step
    python scripts/bench.py forms        # ms of depthwise convolution, layer norm and GELU in several implementations
    python scripts/bench.py stock        # ms of a ConvNeXt step with our layers, and with torch's in their place
    python scripts/bench.py startup      # seconds from Enter to the first training step, item by item
    python scripts/bench.py cells        # seconds of a sweep's cell beyond its training, cold and warm
    python scripts/bench.py overhead --rounds 9 arch=convnext size=pico

The arms of a bench alternate and their order rotates every round. A figure is a median over rounds, with the minimum
and the maximum. Overrides are those of train.py and replace the defaults of the bench. With CUDA, the GPU is measured.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # before an installed minuteloop

from minuteloop import hardware
from minuteloop.config.compose import CONF, compose
from minuteloop.config.errors import exit_on_user_error
from minuteloop.records import environment

NET = ["arch=resnet18", "size.width=0.25", "size.depth=1"]  # ResNet-18, a quarter as wide
BENCHES = {  # name of a function (config, args) -> rows: its module, and its default overrides
    "overhead": ("benches.step", [*NET, "recipe.batch_size=256", "data=sample"]),
    "step": ("benches.step", [*NET, "recipe=deit", "recipe.strength=1", "data=cifar10"]),
    "augment": ("benches.augment", ["data=sample"]),
    "pipeline": ("benches.pipeline", ["data=sample"]),
    "archs": ("benches.archs", ["size=pico", "data=sample", "recipe.batch_size=64"]),
    "ingredients": ("benches.ingredients", ["arch=resnet18", "size=pico", "data=sample"]),
    "forms": ("benches.forms", ["data=sample", "recipe.batch_size=128"]),
    "stock": ("benches.step", ["arch=convnext", "recipe=deit", "size=pico", "data=sample"]),
    "cells": ("benches.cells", ["arch=convnext", "recipe=deit", "data=cifar10"]),
    "startup": ("benches.startup", ["arch=convnext", "recipe=deit", "data=cifar10"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", choices=BENCHES)
    parser.add_argument("overrides", nargs="*", help="as for train.py, such as arch=convnext size=pico")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each arm (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="steps of an arm in a round (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the peers' loaders (default: %(default)s)")
    args = parser.parse_intermixed_args()
    module, defaults = BENCHES[args.bench]
    args.overrides = args.overrides or defaults
    with exit_on_user_error(CONF, args.overrides):
        config = compose(args.overrides)
        hardware.keep_freed_memory()
        config = hardware.resolve_auto(config)
        machine = {"host": environment.describe_host(config.device), "versions": environment.versions()}
        measure = getattr(importlib.import_module(module), args.bench)
        for row in measure(config, args):
            row = {"bench": args.bench, **row, "rounds": args.rounds, "overrides": args.overrides}
            print(json.dumps(row | machine), flush=True)


if __name__ == "__main__":
    main()
