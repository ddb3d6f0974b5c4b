"""minuteloop: know in one minute, and honestly, whether an idea about training image classifiers is any good."""

from minuteloop.build import compose
from minuteloop.run import run
from minuteloop.trained import load

__all__ = ["compose", "load", "run"]
