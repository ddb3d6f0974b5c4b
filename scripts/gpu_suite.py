"""Run all GPU measurements, in calls of limited length: finished cells are skipped, so repeat the call until done.

    python scripts/gpu_suite.py OUT                 # as many cells as should end within --minutes
    python scripts/gpu_suite.py OUT --list          # the cells, their expected minutes, and which are done

Each cell leaves OUT/NAME.json (command, exit code, seconds), OUT/NAME.out (its output) and, if it is a run,
OUT/NAME/result.json. A failed cell is repeated by the next call. `--tiny` shrinks every cell to seconds on a CPU, to
test the suite itself.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
RUN = [PYTHON, "train.py", "logger=none", "logger.pictures=false", "hydra.run.dir={out}"]  # {out}: the cell's folder
BY_HAND = [PYTHON, "scripts/by_hand.py"]
TINY = ["data=sample", "recipe.batch_size=64", "size=nano"]
FULL = ["size=tiny", "data.holdout=0"]
TIMEOUT = 124  # exit code of a cell that ran out of time, as of timeout(1)
BENCHES = {  # bench -> expected minutes, overrides on a GPU, overrides with --tiny
    "archs": (
        6,
        ["size=tiny", "data=sample", "recipe.batch_size=512"],
        ["size=nano", "data=sample", "recipe.batch_size=4"],
    ),
    "step": (3, [], ["data=sample", "recipe.batch_size=32", "size=nano"]),
    "overhead": (2, [], ["data=sample", "recipe.batch_size=32", "size=nano"]),
    "forms": (3, ["data=sample", "recipe.batch_size=512"], ["data=sample", "recipe.batch_size=2"]),
    "pipeline": (3, [], []),
    "ingredients": (
        2,
        ["arch=resnet18", "size=tiny", "data=sample", "recipe.batch_size=512"],
        ["arch=resnet18", "size=nano", "data=sample", "recipe.batch_size=8"],
    ),
    "startup": (2, [], ["data=sample", "recipe.batch_size=32", "size=nano"]),
}


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    name: str
    command: list[str]
    minutes: float  # expected


def cells(tiny: bool) -> list[Cell]:
    """Return the suite, the most important cells first."""
    airbench = ["arch=airbench", "recipe=airbench94_muon", *FULL]
    runs = _seeds("airbench", RUN, airbench, "8ep", 10, 0.6, tiny)
    by_hand = _seeds("airbench_by_hand", BY_HAND, airbench, "8ep", 10, 0.5, tiny)
    suite = [Cell("tests", [PYTHON, "-m", "pytest", "-q", "-m", "gpu"], 4)]
    suite += [cell for pair in zip(runs, by_hand, strict=True) for cell in pair]  # neighbours meet the same machine
    for name, overrides in (
        ("convnext_deit", ["arch=convnext", "recipe=deit"]),
        ("convnext_minute", ["arch=convnext", "recipe=minute"]),
        ("sprint", ["arch=airbench", "recipe=sprint"]),
    ):
        suite += _seeds(name, RUN, [*overrides, *FULL], "60s", 3, 1.7, tiny)
    rounds = ["--rounds", "1", "--steps", "2"] if tiny else ["--rounds", "5"]
    for name, (minutes, *overrides) in BENCHES.items():
        suite.append(Cell(f"bench_{name}", [PYTHON, "scripts/bench.py", name, *rounds, *overrides[tiny]], minutes))
    return suite


def _seeds(
    name: str, command: list[str], overrides: list[str], budget: str, seeds: int, minutes: float, tiny: bool
) -> list[Cell]:
    """Return a cell for each seed; with `tiny`, one of two steps."""
    if tiny:
        overrides, budget, seeds = [*overrides, *TINY], "2steps", 1
    return [
        Cell(f"{name}-{seed}", [*command, *overrides, f"budget={budget}", f"seed={seed}"], minutes)
        for seed in range(seeds)
    ]


def is_done(out: Path, cell: Cell) -> bool:
    """Return whether an earlier call finished the cell."""
    result = out / f"{cell.name}.json"
    return result.exists() and json.loads(result.read_text())["rc"] == 0


def measure(out: Path, cell: Cell, seconds: float) -> dict:
    """Run a cell for at most `seconds`; return its exit code and seconds, and write them last."""
    folder = (out / cell.name).resolve()
    shutil.rmtree(folder, ignore_errors=True)  # of a failed attempt
    command = [word.replace("{out}", str(folder)) for word in cell.command]
    begin = time.perf_counter()
    with (out / f"{cell.name}.out").open("w") as file:
        try:
            rc = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=seconds).returncode
        except subprocess.TimeoutExpired:
            rc = TIMEOUT
    result = {"cell": cell.name, "command": command[1:], "rc": rc, "seconds": round(time.perf_counter() - begin, 1)}
    (out / f"{cell.name}.json").write_text(json.dumps(result) + "\n")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the results, the same for every call")
    parser.add_argument("--minutes", type=float, default=8.0, help="length of this call (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="list the cells and run none")
    parser.add_argument("--tiny", action="store_true", help="shrink every cell to seconds on a CPU")
    parser.add_argument("--only", default="", metavar="PREFIX", help="cells whose names start with PREFIX")
    args = parser.parse_args()
    suite = [cell for cell in cells(args.tiny) if cell.name.startswith(args.only)]
    if not suite:
        parser.error(f"--only {args.only}: no cell starts with it")
    if args.list:
        for cell in suite:
            print(f"{'done' if is_done(args.out, cell) else 'to do':6} {cell.minutes:4.1f} min  {cell.name}")
        return
    failures = run(suite, args.out, args.minutes, args.tiny)
    todo = [cell.name for cell in suite if not is_done(args.out, cell)]
    print(f"{len(suite) - len(todo)} of {len(suite)} cells are done{'; to do: ' if todo else ''}{', '.join(todo)}")
    sys.exit(1 if failures else 0)


def run(suite: list[Cell], out: Path, minutes: float, tiny: bool) -> int:
    """Run the cells that are not done and should end within `minutes`; return how many failed."""
    begin, failures = time.perf_counter(), 0
    out.mkdir(parents=True, exist_ok=True)
    for cell in suite:
        left = 60 * minutes - (time.perf_counter() - begin)
        if is_done(out, cell) or left < 60 * (0.05 if tiny else cell.minutes):
            continue
        result = measure(out, cell, left)
        failures += result["rc"] != 0
        print(f"rc {result['rc']}  {result['seconds']:6.1f} s  {cell.name}", flush=True)
    return failures


if __name__ == "__main__":
    main()
