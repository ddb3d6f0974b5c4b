"""python scripts/tune.py --help, the same as `minuteloop tune`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # before an installed minuteloop

from minuteloop.cli import tune

if __name__ == "__main__":
    tune()
