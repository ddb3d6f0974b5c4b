"""minuteloop: know in one minute, and honestly, whether an idea about training image classifiers is any good."""

import importlib
from importlib import metadata

__version__ = metadata.version("minuteloop")

# name -> module; imported when first used, since some need torch
_MODULES = {
    "compose": "minuteloop.config.compose",
    "run": "minuteloop.training.run",
    "build": "minuteloop.training.build",
    "load": "minuteloop.trained.load",
    "Classifier": "minuteloop.training.classifier",
    "CIFARDataModule": "minuteloop.data.datamodule",
    "build_net": "minuteloop.nets.net",
    "make_plan": "minuteloop.training.plan",
}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'minuteloop' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
