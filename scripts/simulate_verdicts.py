"""Simulate studies with known answers, and count how often the verdicts of `minuteloop report` are right.

    python scripts/simulate_verdicts.py recipes/*/seed*.json recipes/bench/strength_cpu.jsonl

The seeds of a simulated study come from real records (result.json, or JSON rows of a bench). Pools of seeds are small:
each one is centred by its mean, multiplied by sqrt(n / (n - 1)), and the residuals of all pools of three and more are
drawn from together, without replacement within a study ('real'). 'one-spread' first divides each pool by its std;
'normal' is the reference. The unit is the std of what is drawn from.

First table, A/A: all arms are alike. How often any arm, one given arm or any pair of a study is said to differ, one
given arm is said to differ from the baseline at either of two budgets and to carry over or not, and spreads are said to
differ. Second table: one arm is better, by the difference that the plan (`resolvable`) promises to show with power 0.8;
then by one std: how often it is said to be better at once, where the verdict asks for more seeds also with these, and
in all.
"""

import argparse
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # before an installed minuteloop

import numpy as np
from scipy import special
from tabulate import tabulate

from minuteloop.report.statistics.effects import Arms, Effect, against_baseline, all_pairs
from minuteloop.report.statistics.seeds import more_seeds, resolvable
from minuteloop.report.statistics.verdicts import carries_over, outcome

FEWEST = 3  # values of a pool
BASELINE = "baseline"
RUNS = ["real", "one-spread", "normal"]
UNIT = 100  # points: large against the step of an accuracy, so that only the shape of residuals counts

Draw = Callable[[int], np.ndarray]  # number of runs -> their deviations from the arm's mean, std 1


def read_pools(files: list[Path]) -> dict[str, list[float]]:
    """Return {arm: accuracies of its seeds}, of result.json files by folder and of rows by arm and epochs."""
    pools = defaultdict(list)
    for file in files:
        for line in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            row = json.loads(line)
            if file.suffix == ".jsonl":
                pools[f"{file.stem} {row['arm']} {row['epochs']}"].append(row["val_acc"])
            else:
                pools[str(file.parent)].append(row["metrics"]["test/acc"])
    return {name: pool for name, pool in pools.items() if len(pool) >= FEWEST}


def residuals(pools: dict[str, list[float]], one_spread: bool) -> np.ndarray:
    """Return the deviations of all values from their pool's mean, with std 1 over all."""
    parts = []
    for pool in map(np.array, pools.values()):
        part = (pool - pool.mean()) * np.sqrt(len(pool) / (len(pool) - 1))
        parts.append(part / pool.std(ddof=1) if one_spread else part)
    together = np.concatenate(parts)
    return together / together.std(ddof=1)


def draws_of(values: np.ndarray, generator: np.random.Generator) -> Draw:
    """Return a function that draws runs without replacement, and with it where it is asked for more than there are."""
    return lambda runs: generator.choice(values, runs, replace=runs > len(values))


def study(draw: Draw, arms: int, seeds: int, shift: float = 0.0) -> Arms:
    """Return a baseline and `arms` arms of equal means; the first arm is better by `shift` stds."""
    values = (UNIT * draw((arms + 1) * seeds)).reshape(arms + 1, seeds)
    values[1] += UNIT * shift
    return dict(zip([BASELINE, *map(str, range(1, arms + 1))], values.tolist(), strict=True))


Counts = dict[str, tuple[int, int] | str]  # column -> how often, of how many; or a text


def simulate(draw: Draw, arms: int, seeds: int, studies: int) -> Counts:
    """Count false differences between equal arms."""
    counts = defaultdict(int)
    for _ in range(studies):
        short, long, pairs = (study(draw, arms, seeds) for _ in range(3))
        at_short, at_long = (against_baseline(of, BASELINE) for of in (short, long))
        differs = {name: any(is_different(of[name]) for of in (at_short, at_long)) for name in at_short}
        transfer = [carries_over(at_short[name], at_long[name], UNIT) for name in at_short if differs[name]]
        counts["any arm"] += any(map(is_different, at_short.values()))
        counts["one arm"] += sum(map(is_different, at_short.values()))
        counts["any pair"] += any(map(is_different, all_pairs(pairs).values()))
        counts["carries over"] += transfer.count("carries over")
        counts["does not"] += transfer.count("does not")
        counts["spreads differ"] += "spreads differ" in at_short["1"].method
    by_arm = {"one arm", "carries over", "does not"}
    return {name: (count, studies * arms if name in by_arm else studies) for name, count in counts.items()}


def is_different(effect: Effect) -> bool:
    """Return whether an effect is said to be better or worse."""
    return outcome(effect) in ("better", "worse")


def simulate_difference(draw: Draw, arms: int, seeds: int, studies: int) -> Counts:
    """Count how often a true difference is resolved, at once and with the seeds that the verdict asks for."""
    plan = resolvable(1.0, seeds, arms)
    planned = sum(
        outcome(against_baseline(study(draw, arms, seeds, plan), BASELINE)["1"]) == "better" for _ in range(studies)
    )
    at_once, then, more = 0, 0, []
    for _ in range(studies):
        first = study(draw, arms, seeds, 1.0)
        effect = against_baseline(first, BASELINE)["1"]
        at_once += outcome(effect) == "better"
        if outcome(effect, UNIT) == "unresolved":
            more.append(more_seeds(effect, UNIT)[0])
            added = study(draw, arms, more[-1], 1.0)
            effect = against_baseline({name: first[name] + added[name] for name in first}, BASELINE)["1"]
            then += outcome(effect) == "better"
    return {
        "planned, std": f"{plan:.2f}",
        "better, planned": (planned, studies),
        "better by 1 std, at once": (at_once, studies),
        "seeds asked for": f"{np.median(more):.0f}" if more else "-",
        "better with these": (then, len(more)) if more else "-",
        "in all": (at_once + then, studies),
    }


def simulate_cell(cell: tuple[np.ndarray | None, int, int, int, int]) -> tuple[Counts, Counts]:
    """Return both counts of (residuals, None for normal ones; arms; seeds; studies; seed)."""
    values, arms, seeds, studies, seed = cell
    generator = np.random.default_rng([seed, arms, seeds])
    draw = generator.standard_normal if values is None else draws_of(values, generator)
    return simulate(draw, arms, seeds, studies), simulate_difference(draw, arms, seeds, studies)


def rate(counts: tuple[int, int] | str) -> str:
    """Return a rate with its 95 % interval (Clopper & Pearson, Biometrika 26 (1934) 404); a text as it is."""
    if isinstance(counts, str):
        return counts
    count, of = counts
    low = special.betaincinv(count, of - count + 1, 0.025) if count else 0.0
    high = special.betaincinv(count + 1, of - count, 0.975) if count < of else 1.0
    return f"{count / of:.3f} [{low:.3f}, {high:.3f}]".replace("0.", ".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="records of seeds (.json), or rows of a bench (.jsonl)")
    parser.add_argument("--studies", type=int, default=2000, help="of each kind (default: %(default)s)")
    parser.add_argument("--arms", type=int, nargs="+", default=[1, 5], help="beside the baseline (default: 1 5)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5], help="of an arm (default: 3 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation (default: %(default)s)")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS, help="to draw from (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    args = parser.parse_args()
    pools = read_pools(args.files)
    if not pools:
        parser.error(f"files: must hold an arm with at least {FEWEST} seeds")
    sizes = ", ".join(f"{name} {len(pool)} (std {100 * np.std(pool, ddof=1):.2f})" for name, pool in pools.items())
    print(f"{sum(map(len, pools.values()))} runs of {len(pools)} pools, std in points: {sizes}")
    kinds = {"real": residuals(pools, False), "one-spread": residuals(pools, True), "normal": None}
    cells = list(itertools.product(args.runs, args.arms, args.seeds))
    with ProcessPoolExecutor(args.jobs) as processes:
        tasks = [(kinds[kind], arms, seeds, args.studies, args.seed) for kind, arms, seeds in cells]
        results = list(processes.map(simulate_cell, tasks))
    for table in zip(*results, strict=True):
        header = ["runs", "arms", "seeds", *table[0]]
        rows = [[*cell, *map(rate, counts.values())] for cell, counts in zip(cells, table, strict=True)]
        print(f"\n{tabulate(rows, header, 'github', disable_numparse=True)}")


if __name__ == "__main__":
    main()
