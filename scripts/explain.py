"""python scripts/explain.py --help, the same as `minuteloop explain`."""

from minuteloop.cli import explain

if __name__ == "__main__":
    explain()
