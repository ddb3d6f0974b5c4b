"""Simulate a large sweep on a cluster, and print what it takes with one and with several cells a task.

    python scripts/simulate_sweep.py                       # 10,000 cells of 60 s on 8, 64 and 256 devices
    python scripts/simulate_sweep.py --cells 2000 --budget 15 --devices 4 --cells-per-task 1 20

A scheduler starts tasks in order, one at a time, each on a device that has been free for a while: what other users and
the scheduler's own rounds cost. A task trains its cells one after the other, the first of them cold. A device fails at
random while it is busy; its task then waits, restarts and resumes the interrupted cell from
its checkpoint. Rows are means over simulated sweeps, with seeds 0, 1, 2, ...

The defaults of seconds are measured (docs/scaling.md): `python scripts/bench.py cells` and Slurm on one host.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import math
import random
import statistics
from collections import deque
from dataclasses import dataclass

from tabulate import tabulate

COLD, WARM = 12.0, 7.5  # seconds, measured: docs/scaling.md
CHECKPOINT = 3.0  # seconds of training between two checkpoints (EVERY in training/checkpoint.py)


@dataclass(frozen=True)
class Cluster:
    """What a sweep meets; times in seconds."""

    devices: int
    cold: float  # of a task's first cell, beyond its training
    warm: float  # of every other cell of the task
    queue: float  # mean time from a device's last task to the next, beside `start`
    start: float  # between two starts of tasks
    failure: float  # mean busy time of a device between two failures; math.inf for none
    requeue: float  # until a task that failed may start again
    lost: float  # training that a failure repeats, at most: the time between two checkpoints


@dataclass(frozen=True)
class Outcome:
    """What a simulated sweep took."""

    seconds: float  # from its start to its last cell's end
    used: float  # fraction of the devices' time in which they trained what counts
    failures: float


def simulate(cells: int, budget: float, cells_per_task: int, cluster: Cluster, seed: int = 0) -> Outcome:
    """Return what a sweep of `cells` cells with `budget` seconds of training takes."""
    draw = random.Random(seed)
    waiting = deque((min(cells_per_task, cells - first), budget) for first in range(0, cells, cells_per_task))
    failed: list[tuple[float, int, float]] = []  # (ready, cells, training left of the first): a heap
    free = [0.0] * cluster.devices  # when the scheduler may start a task on each device: a heap
    next_start = last = 0.0
    failures = 0
    while waiting or failed:
        now = max(heapq.heappop(free), next_start)
        if failed and (failed[0][0] <= now or not waiting):
            ready, left, first = heapq.heappop(failed)
            now = max(now, ready)
        else:
            left, first = waiting.popleft()
        next_start = now + cluster.start
        fails_at = now + (draw.expovariate(1 / cluster.failure) if cluster.failure < math.inf else math.inf)
        end = now
        for place in range(left):
            to_train = budget if place else first
            end += (cluster.warm if place else cluster.cold) + to_train
            if end > fails_at:
                trained = to_train - (end - fails_at)  # negative while the cell starts
                kept = max(0.0, trained - draw.uniform(0.0, cluster.lost))
                heapq.heappush(failed, (fails_at + cluster.requeue, left - place, to_train - kept))
                failures, end = failures + 1, fails_at
                break
        last = max(last, end)
        heapq.heappush(free, end + (draw.expovariate(1 / cluster.queue) if cluster.queue else 0.0))
    return Outcome(last, cells * budget / (cluster.devices * last), failures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of training (default: %(default)s)")
    parser.add_argument("--devices", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--cells-per-task", type=int, nargs="+", default=[1, 5, 20, 100])
    parser.add_argument("--cold", type=float, default=COLD, help="seconds (default: %(default)s)")
    parser.add_argument("--warm", type=float, default=WARM, help="seconds (default: %(default)s)")
    parser.add_argument("--queue", type=float, default=30.0, help="mean seconds (default: %(default)s)")
    parser.add_argument("--start", type=float, default=0.1, help="seconds (default: %(default)s)")
    parser.add_argument("--failure", type=float, default=24.0, help="hours (default: %(default)s)")
    parser.add_argument("--requeue", type=float, default=120.0, help="seconds; Slurm's (default: %(default)s)")
    parser.add_argument("--sweeps", type=int, default=5, help="simulated sweeps of a row (default: %(default)s)")
    args = parser.parse_args()
    rows = []
    for devices, cells_per_task in itertools.product(args.devices, args.cells_per_task):
        cluster = Cluster(
            devices, args.cold, args.warm, args.queue, args.start, args.failure * 3600, args.requeue, CHECKPOINT
        )
        made = [simulate(args.cells, args.budget, cells_per_task, cluster, seed) for seed in range(args.sweeps)]
        hours, used, failures = (
            statistics.mean(values) for values in zip(*map(dataclasses.astuple, made), strict=True)
        )
        tasks = math.ceil(args.cells / cells_per_task)
        rows.append([devices, cells_per_task, tasks, hours / 3600, 100 * used, failures])
    headers = ["devices", "cells a task", "tasks", "hours", "training, %", "failures"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=",.1f", intfmt=","))


if __name__ == "__main__":
    main()
