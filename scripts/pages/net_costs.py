"""Parameters and MACs of nets, counted without running them, and those of the ladder from ResNet-50 to ConvNeXt-T."""

from __future__ import annotations

import functools

import yaml

from minuteloop.config.compose import CONF, compose
from minuteloop.nets.flops import Cost, count
from minuteloop.nets.spec import resolve

IMAGENET = (224, 1000)  # image size in pixels, classes


@functools.cache
def net_cost(overrides: tuple[str, ...], image_size: int, num_classes: int) -> Cost:
    """Return the cost of the net that overrides describe."""
    config = compose(list(overrides), image_size=image_size)
    return count(resolve(config.arch, config.size, image_size, num_classes), image_size)


def roadmap() -> list[str]:
    """Return the steps from ResNet to ConvNeXt, in the order of conf/arch/convnext.yaml."""
    defaults = yaml.safe_load((CONF / "arch/convnext.yaml").read_text())["defaults"]
    (steps,) = (entry["/modernization"] for entry in defaults if isinstance(entry, dict))
    return steps


def ladder() -> list[tuple[str, Cost]]:
    """Return (name, cost at 224 pixels and 1,000 classes) of ResNet-50 and of the net after each step."""
    steps = roadmap()
    rungs = [("ResNet-50", []), *((step, steps[: number + 1]) for number, step in enumerate(steps))]
    return [
        (name, net_cost(("arch=resnet", "size=tiny", f"modernization=[{','.join(listed)}]"), *IMAGENET))
        for name, listed in rungs
    ]
