"""python train.py arch=convnext recipe=deit: train a config; --help lists every key."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # before an installed minuteloop

from minuteloop.cli import train

if __name__ == "__main__":
    train()
