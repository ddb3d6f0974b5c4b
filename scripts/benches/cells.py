"""Cells of a sweep: seconds that one takes beyond its training, alone in a launcher's task and after others in it."""

import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
BUDGETS = ("5s", "60s")
OVERRIDES = ["logger=none", "logger.pictures=false"]


def cells(config, args: Namespace) -> Iterator[dict]:
    """Yield a row for a task's only cell (cold) and for a second one (warm), of 5 s and of 60 s.

    The rate of the arm is known, as in all but the first cell of a sweep.
    """
    from benches.rounds import alternate, spread

    for budget in BUDGETS:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            seeds = itertools.count()
            measure = functools.partial(beyond_training, Path(folder), [*args.overrides, f"budget={budget}"], seeds)
            measure(1)  # measures the rate
            measured = alternate({n: functools.partial(measure, n) for n in (1, 2)}, args.rounds)
        cold, both = measured[1], measured[2]
        warm = [two - one for one, two in zip(cold, both, strict=True)]
        yield {"arm": f"cell of {budget}, cold", "seconds": {"beyond training": spread(cold)}}
        yield {"arm": f"cell of {budget}, warm", "seconds": {"beyond training": spread(warm)}}


def beyond_training(folder: Path, overrides: list[str], seeds: Iterator[int], cells: int) -> float:
    """Run a sweep of one task with new seeds in a fresh process; return its seconds without those of training."""
    seed = f"seed={','.join(str(next(seeds)) for _ in range(cells))}"
    sweep = folder / "runs" / seed
    command = [sys.executable, TRAIN, "-m", *OVERRIDES, *overrides, seed, f"hydra.sweep.dir='{sweep}'"]
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"error: bench cells: {done.stderr.strip() or done.stdout.strip()}")
    records = [json.loads(path.read_text()) for path in sweep.glob("*/result.json")]
    return seconds - sum(record["seconds"]["train"] for record in records)
