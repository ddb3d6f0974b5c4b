"""python scripts/features.py --help, the same as `minuteloop features`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # before an installed minuteloop

from minuteloop.cli import features

if __name__ == "__main__":
    features()
