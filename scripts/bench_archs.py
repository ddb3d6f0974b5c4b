"""What every architecture costs: parameters and multiply-adds beside measured images/s."""

from collections.abc import Iterator
from functools import partial

from bench_rounds import alternate, spread

from minuteloop.config.compose import CONF, IMAGE_SIZE, compose
from minuteloop.nets.flops import count
from minuteloop.nets.spec import resolve
from minuteloop.nets.throughput import measure


def archs(config, args) -> Iterator[dict]:
    """A row for each of our own archs: forward and backward at the config's size, batch, device and precision.

    `macs_a_second` tells where multiply-adds and seconds disagree: it would be one number if they did not.
    """
    words = [word for word in args.overrides if not word.startswith("arch=")]
    plans = {}
    for file in sorted(set((CONF / "arch").glob("*.yaml")) - {CONF / "arch" / "timm.yaml"}):
        found = compose([*words, f"arch={file.stem}"])
        plans[file.stem] = resolve(found.arch, found.size, IMAGE_SIZE, 10)
    batch, how = config.recipe.batch_size, (config.device, config.precision == "bf16", config.channels_last)
    arms = {name: partial(measure, plan, batch, *how, passes=args.steps) for name, plan in plans.items()}
    for name, rates in alternate(arms, args.rounds).items():
        cost = count(plans[name], IMAGE_SIZE)
        yield {
            "arm": name,
            "params": cost.params,
            "macs": cost.macs,
            "images_a_second": spread(rates),
            "macs_a_second": spread([3 * cost.macs * rate for rate in rates]),  # backward takes twice the forward's
            "batch_size": batch,
            "precision": config.precision,
            "threads": config.threads,
        }
