"""Everything that a GPU should measure, in calls that fit a loan: finished cells are skipped, so call it again.

    python scripts/gpu_suite.py OUT                 # as many cells as begin and should end within --minutes
    python scripts/gpu_suite.py OUT --list          # the cells, what they are expected to take, and which are done

Each cell leaves OUT/NAME.json (its command, exit code and seconds), OUT/NAME.out (what it printed) and, where it is a
run, OUT/NAME/result.json. A cell that failed is tried again by the next call. `--tiny` shrinks every cell to what a CPU
does in seconds, to try the suite itself.
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


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    name: str
    command: list[str]
    minutes: float  # expected


def cells(tiny: bool) -> list[Cell]:
    """The suite, what matters most first."""
    small = ["data=sample", "recipe.batch_size=64", "size=nano"] if tiny else []
    rounds = ["--rounds", "1", "--steps", "2"] if tiny else ["--rounds", "5"]
    found = [Cell("tests", [PYTHON, "-m", "pytest", "-q", "-m", "gpu"], 4)]

    def runs(name: str, words: list[str], budget: str, seeds: int, minutes: float) -> list[Cell]:
        budget = "2steps" if tiny else budget
        return [
            Cell(
                f"{name}-{seed}",
                [PYTHON, "train.py", *words, *small, f"budget={budget}", f"seed={seed}", *QUIET, RUN_DIR],
                minutes,
            )
            for seed in range(1 if tiny else seeds)
        ]

    def by_hand(name: str, words: list[str], budget: str, seeds: int, minutes: float) -> list[Cell]:
        budget = "2steps" if tiny else budget
        return [
            Cell(
                f"{name}-{seed}",
                [PYTHON, "scripts/by_hand.py", *words, *small, f"budget={budget}", f"seed={seed}"],
                minutes,
            )
            for seed in range(1 if tiny else seeds)
        ]

    airbench = ["arch=airbench", "recipe=airbench94_muon", "size=tiny", "data.holdout=0"]
    # one after the other, so that both meet the same machine
    pairs = zip(
        runs("airbench", airbench, "8ep", 10, 0.6), by_hand("airbench_by_hand", airbench, "8ep", 10, 0.5), strict=True
    )
    found += [cell for pair in pairs for cell in pair]
    full = ["size=tiny", "data.holdout=0"]
    found += runs("convnext_deit", ["arch=convnext", "recipe=deit", *full], "60s", 3, 1.7)
    found += runs("convnext_minute", ["arch=convnext", "recipe=minute", *full], "60s", 3, 1.7)
    found += runs("sprint", ["arch=airbench", "recipe=sprint", *full], "60s", 3, 1.7)
    minutes_of = {"archs": 6, "step": 3, "overhead": 2, "forms": 3, "pipeline": 3, "ingredients": 2, "startup": 2}
    for what, minutes in minutes_of.items():
        found.append(Cell(f"bench_{what}", [PYTHON, "scripts/bench.py", what, *rounds, *BENCH[what][tiny]], minutes))
    return found


QUIET = ("logger=none", "logger.pictures=false")
RUN_DIR = "hydra.run.dir={out}"  # the cell's own folder
BENCH = {  # overrides: as large as a GPU wants, tiny
    "archs": (
        ["size=tiny", "data=sample", "recipe.batch_size=512"],
        ["size=nano", "data=sample", "recipe.batch_size=4"],
    ),
    "step": ([], ["data=sample", "recipe.batch_size=32", "size=nano"]),
    "overhead": ([], ["data=sample", "recipe.batch_size=32", "size=nano"]),
    "forms": (["data=sample", "recipe.batch_size=512"], ["data=sample", "recipe.batch_size=2"]),
    "pipeline": ([], []),
    "ingredients": (
        ["arch=resnet18", "size=tiny", "data=sample", "recipe.batch_size=512"],
        ["arch=resnet18", "size=nano", "data=sample", "recipe.batch_size=8"],
    ),
    "startup": ([], ["data=sample", "recipe.batch_size=32", "size=nano"]),
}


def is_done(out: Path, cell: Cell) -> bool:
    """Whether the cell ended well in an earlier call."""
    note = out / f"{cell.name}.json"
    return note.exists() and json.loads(note.read_text())["rc"] == 0


def measure(out: Path, cell: Cell, seconds: float) -> dict:
    """Runs a cell, for `seconds` at most, and leaves its note last."""
    folder = (out / cell.name).resolve()
    shutil.rmtree(folder, ignore_errors=True)  # what a failed attempt left
    command = [word.replace("{out}", str(folder)) for word in cell.command]
    begin = time.perf_counter()
    with (out / f"{cell.name}.out").open("w") as file:
        try:
            rc = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=seconds).returncode
        except subprocess.TimeoutExpired:
            rc = 124
    note = {"cell": cell.name, "command": command[1:], "rc": rc, "seconds": round(time.perf_counter() - begin, 1)}
    (out / f"{cell.name}.json").write_text(json.dumps(note) + "\n")
    return note


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder, the same for every call")
    parser.add_argument("--minutes", type=float, default=8.0, help="of a call")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default="", help="cells whose name begins so")
    args = parser.parse_args()
    begin, failed = time.perf_counter(), 0
    args.out.mkdir(parents=True, exist_ok=True)
    suite = [cell for cell in cells(args.tiny) if cell.name.startswith(args.only)]
    if not suite:
        sys.exit(f"error: --only {args.only}: no cell begins so")
    for cell in suite:
        done = is_done(args.out, cell)
        if args.list:
            print(f"{'done' if done else 'to do':6} {cell.minutes:4.1f} min  {cell.name}")
            continue
        left = 60 * args.minutes - (time.perf_counter() - begin)
        if done or left < 60 * (0.05 if args.tiny else cell.minutes):
            continue
        note = measure(args.out, cell, left)
        failed += note["rc"] != 0
        print(f"rc {note['rc']}  {note['seconds']:6.1f} s  {cell.name}", flush=True)
    if not args.list:
        todo = [cell.name for cell in suite if not is_done(args.out, cell)]
        print(f"{len(suite) - len(todo)} of {len(suite)} cells are done{'; to do: ' if todo else ''}{', '.join(todo)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
