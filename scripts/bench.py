"""What things cost: rows of JSON, one a measurement, each with the machine and the versions.

    python scripts/bench.py overhead     # our Trainer against a bare loop doing the same arithmetic
    python scripts/bench.py step         # images/s of whole steps: ours against torchvision's and timm's loaders
    python scripts/bench.py augment      # images/s of RandAugment and TrivialAugment alone: ours and four peers'
    python scripts/bench.py pipeline     # images/s of the data path alone: ours against loaders with worker processes
    python scripts/bench.py archs        # images/s of every architecture beside its multiply-adds
    python scripts/bench.py ingredients  # milliseconds that each ingredient of a recipe adds to a training step
    python scripts/bench.py forms        # depthwise convolution and layer norm in the forms that there are
    python scripts/bench.py stock        # a ConvNeXt step with those forms, and with torch's own in place of them
    python scripts/bench.py startup      # from Enter to the first training step, item by item
    python scripts/bench.py overhead --rounds 9 arch=convnext size=pico

The arms alternate, their order rotated every round; a figure is a median over rounds, with the least and the most
beside it. Overrides, as train.py takes them, stand in for the bench's own. On a CUDA device it measures that.
"""

import argparse
import importlib
import json
import sys

from minuteloop import hardware
from minuteloop.config.compose import compose
from minuteloop.records import environment
from minuteloop.validation import ConfigError

NET = ["arch=resnet18", "size.width=0.25", "size.depth=1"]  # ResNet-18, a quarter as wide
BENCHES = {  # a function (config, args) -> rows: the module that has it, and overrides where none are given
    "overhead": ("bench_step", [*NET, "recipe.batch_size=256", "data=sample"]),
    "step": ("bench_step", [*NET, "recipe=deit", "recipe.strength=1", "data=cifar10"]),
    "augment": ("bench_data", ["data=sample"]),
    "pipeline": ("bench_data", ["data=sample"]),
    "archs": ("bench_archs", ["size=pico", "data=sample", "recipe.batch_size=64"]),
    "ingredients": ("bench_ingredients", ["arch=resnet18", "size=pico", "data=sample"]),
    "forms": ("bench_forms", ["data=sample", "recipe.batch_size=128"]),
    "stock": ("bench_step", ["arch=convnext", "recipe=deit", "size=pico", "data=sample"]),
    "startup": ("bench_startup", ["arch=convnext", "recipe=deit", "data=cifar10"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=BENCHES)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60, help="training steps a round and arm")
    parser.add_argument("--workers", type=int, default=2, help="processes of the loaders that have them")
    args = parser.parse_intermixed_args()
    module, usual = BENCHES[args.what]
    args.overrides = args.overrides or usual
    try:
        config = compose(args.overrides)
        hardware.keep_freed_memory()
        config = hardware.resolve_auto(config)
        machine = {"host": environment.describe_host(config.device), "versions": environment.versions()}
        bench = getattr(importlib.import_module(module), args.what)
        for row in bench(config, args):
            row = {"bench": args.what, **row, "rounds": args.rounds, "overrides": args.overrides}
            print(json.dumps(row | machine), flush=True)
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
