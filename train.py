"""python train.py arch=convnext recipe=deit: train a config; --help lists every key."""

from minuteloop.cli import train

if __name__ == "__main__":
    train()
