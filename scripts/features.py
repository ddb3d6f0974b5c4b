"""python scripts/features.py --help, the same as `minuteloop features`."""

from minuteloop.cli import features

if __name__ == "__main__":
    features()
