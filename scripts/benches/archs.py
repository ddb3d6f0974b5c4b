"""Cost of every architecture: params and MACs, with measured images/s."""

from argparse import Namespace
from collections.abc import Iterator
from functools import partial

from benches.rounds import alternate, spread

from minuteloop.config.compose import CONF, IMAGE_SIZE, compose
from minuteloop.nets.flops import count
from minuteloop.nets.spec import resolve
from minuteloop.nets.throughput import measure
from minuteloop.schema import Config


def archs(config: Config, args: Namespace) -> Iterator[dict]:
    """Yield a row for each arch but timm: forward and backward at the config's size, batch, device and precision.

    `macs_a_second` would be the same for all archs if MACs predicted time.
    """
    overrides = [override for override in args.overrides if not override.startswith("arch=")]
    specs = {}
    for file in sorted(set((CONF / "arch").glob("*.yaml")) - {CONF / "arch" / "timm.yaml"}):
        variant = compose([*overrides, f"arch={file.stem}"])
        specs[file.stem] = resolve(variant.arch, variant.size, IMAGE_SIZE, 10)
    batch_size, bf16 = config.recipe.batch_size, config.precision == "bf16"
    arms = {
        name: partial(measure, spec, batch_size, config.device, bf16, config.channels_last, passes=args.steps)
        for name, spec in specs.items()
    }
    for name, rates in alternate(arms, args.rounds).items():
        cost = count(specs[name], IMAGE_SIZE)
        yield {
            "arm": name,
            "params": cost.params,
            "macs": cost.macs,
            "images_a_second": spread(rates),
            "macs_a_second": spread([3 * cost.macs * rate for rate in rates]),  # backward: twice the forward's MACs
            "batch_size": batch_size,
            "precision": config.precision,
            "threads": config.threads,
        }
