"""result.json: the record of a run that everything else reads, and what is said of it at the start and the end."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import yaml

from minuteloop import hardware as host
from minuteloop.schema import Config
from minuteloop.training.plan import Plan
from minuteloop.training.stopwatch import PHASES, Stopwatch
from minuteloop.validation import ConfigError, flat

SCHEMA = 1
UNFINISHED = ("failed", "interrupted")  # what can be resumed
NOT_HASHED = ("logger", "name", "data.root", "resume")


class Record:
    """Grows while a run goes on. It is on disk from the plan on, with a status that is true if the run dies.

    With the record of an `earlier` attempt in `folder` it goes on from that: `plan` is then the frozen one and
    `frozen` the resolved config, else both are None.
    """

    def __init__(self, asked: Config, folder: Path, started: float, earlier: dict | None = None) -> None:
        self.asked = self.config = dataclasses.replace(asked, resume=False)
        self.folder, self.stopwatch = folder, Stopwatch(started)
        self.plan, self.frozen = None, None
        self.content = {
            "schema": SCHEMA,
            "status": "failed",
            "error": "the run was killed before its end",
            "attempts": 1,
            "seed": asked.seed,
            "config": {},
            "asked": {},
            "config_hash": config_hash(asked),
            "code": host.code(asked.recipe),
            "host": {},
            "versions": host.versions(),
            "plan": {},
            "steps": 0,
            "metrics": {},
            "seconds": self.stopwatch.seconds,
            "cost": {},
        }
        if earlier:
            self._resume(earlier)

    def _resume(self, earlier: dict) -> None:
        self.content |= {key: earlier[key] for key in ("config", "asked", "host", "plan", "cost")}
        self.content["attempts"] += earlier["attempts"]
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        if earlier["plan"]:
            self.plan = Plan(**earlier["plan"])
            anew = {"name": self.asked.name, "logger": dataclasses.asdict(self.asked.logger)}
            self.frozen = earlier["config"] | anew
            self.frozen["data"] = earlier["config"]["data"] | {"root": self.asked.data.root}
        code = self.content["code"]
        if code["hash"] not in earlier["code"]["hash"].split("+"):
            both = f"{earlier['code']['hash']}+{code['hash']}"  # made by neither alone
            self.content["code"] = code | {"hash": both}

    @property
    def checkpoint(self) -> Path:
        """The file of checkpoint.Checkpoint; there only while the run is unfinished."""
        return self.folder / "last.ckpt"

    def lap(self, phase: str, **inside: float) -> None:
        """As Stopwatch.lap."""
        self.stopwatch.lap(phase, **inside)

    def freeze(self, plan: Plan, cost) -> None:
        """Writes down the plan, the resolved config and the net's `cost`, before step 1."""
        recipe = dataclasses.replace(self.config.recipe, lr=plan.lr, strength=plan.strength)
        self.config = dataclasses.replace(self.config, recipe=recipe)
        resolved, asked = flat(dataclasses.asdict(self.config)), flat(dataclasses.asdict(self.asked))
        self.content |= {
            "config": dataclasses.asdict(self.config),
            "asked": {key: value for key, value in asked.items() if value != resolved[key]},
            "host": host.describe(self.config.device),
            "plan": dataclasses.asdict(plan),
            "cost": {"params": cost.params, "macs": cost.macs},
        }
        self.write("config.yaml", yaml.safe_dump(self.content["config"], sort_keys=False).encode())
        self.save()

    def start_line(self) -> str:
        """What will happen, in one line, and before it what an arch's own steps gave way to."""
        plan, config, cores = self.content["plan"], self.config, self.content["host"]["cores"]
        asked = plan["seconds_asked"]
        end = f", {asked:g} s" if asked else ""
        if asked and not self.plan:
            end += f", until about {datetime.now() + timedelta(seconds=asked):%H:%M:%S}"
        replaced = "".join(f"{new} replaces {old}\n" for old, new in config.arch.replaced.items())
        return replaced + (
            f"{config.name} on {config.data.name}: {plan['steps']:,} steps of {plan['batch_size']} "
            f"({plan['epochs']:.2f} epochs), lr {plan['lr']:.3g}, strength {plan['strength']:g}, "
            f"{config.device} {config.precision}, {config.threads} of {cores} cores{end}; record in {self.folder}"
        )

    def resume_line(self) -> str:
        """What `resume` found."""
        if self.content["attempts"] == 1:
            return f"resume: no unfinished run of this config, so one starts in {self.folder}"
        how = "" if self.checkpoint.exists() else ": no checkpoint yet, so it starts over"
        changed = "; the code has changed since" if "+" in self.content["code"]["hash"] else ""
        return f"resuming {self.folder}, attempt {self.content['attempts']}{how}{changed}"

    def stop_line(self) -> str:
        """What a run says that a signal stopped before its end."""
        kept = "its last checkpoint is kept" if self.checkpoint.exists() else "there was no checkpoint yet"
        return f"interrupted, not evaluated: {kept}; resume=true or resume={self.folder} goes on"

    def evaluated(self, metrics: dict[str, float]) -> None:
        """Keeps the figures of an evaluation. Raises FloatingPointError when a loss is not a number."""
        self.content["metrics"] |= {key: value for key, value in metrics.items() if "/" in key}
        for key, value in self.content["metrics"].items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{key} is {value} after the last step")

    def finish(self, status: str, steps: int) -> None:
        """The record of a run that ended, after `steps` steps."""
        seconds = self.content["seconds"]
        self.content |= {"status": status, "error": None, "steps": steps}
        self.content["cost"] |= {
            "images_per_second": steps * self.content["plan"]["batch_size"] / seconds["train"],
            "peak_memory_bytes": host.peak_memory(self.config.device),
        }
        self.save()

    def fail(self, error: BaseException) -> None:
        """Keeps an error's one line, unless the run was finished before; the config may not be resolved yet."""
        if self.is_finished:
            return
        status = "interrupted" if isinstance(error, SystemExit) else "failed"
        lines = str(error).strip().splitlines()
        told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        self.content |= {"status": status, "error": told}
        self.save()

    def save(self) -> None:
        """Writes result.json; a figure that is not a number becomes null, which JSON has."""
        text = json.dumps(self.content, indent=2).replace(": NaN", ": null").replace(": Infinity", ": null")
        self.write("result.json", text.encode() + b"\n")

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to resume."""
        return self.content["status"] not in UNFINISHED

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Writes a file of the run whole or not at all: to a temporary name, synced, then renamed.

        Raises OSError, which names the file.
        """
        temporary = self.folder / f"{name}.tmp"
        with naming(self.folder / name):
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.folder / name)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            folder = os.open(self.folder, os.O_RDONLY)
            with contextlib.suppress(OSError):  # the new name; some network file systems sync no folders
                os.fsync(folder)
            os.close(folder)

    def table(self) -> str:
        """The lines that end a run."""
        metrics, seconds, cost, plan = (self.content[key] for key in ("metrics", "seconds", "cost", "plan"))
        asked = f" of {plan['seconds_asked']:g} s" if plan["seconds_asked"] else ""
        steps, planned = self.content["steps"], plan["steps"]
        done = f"{steps:,} steps" if steps == planned else f"{steps:,} of {planned:,} steps"
        phases = ", ".join(f"{phase} {seconds[phase]:.1f}" for phase in PHASES if phase != "train")
        rows = [
            (name, f"{100 * metrics[f'{split}/acc']:.2f} %", f"loss {metrics[f'{split}/loss']:.4f}")
            for split, name in (("val", "validation"), ("test", "test"))
            if f"{split}/acc" in metrics
        ]
        if "test/acc_tta" in metrics:
            rows.append(("test", f"{100 * metrics['test/acc_tta']:.2f} %", "over several views of each image"))
        rows += [
            ("training", f"{seconds['train']:.1f} s{asked}", done),
            ("in all", f"{seconds['total']:.1f} s", phases),
            ("speed", f"{cost['images_per_second']:,.0f} images/s", "forward and backward, measured"),
            ("net", f"{cost['params']:,} parameters", f"{cost['macs']:,} multiply-adds"),
            ("status", self.content["status"], str(self.folder)),
        ]
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"  {name:<{first}}  {value:>{second}}  {more}" for name, value, more in rows)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets the system's errors inside name the file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def config_hash(config: Config) -> str:
    """Equal for runs that ask for the same training: of the config as asked, without logger, name, folders, resume."""
    asked = dataclasses.asdict(config)
    del asked["logger"], asked["name"], asked["data"]["root"], asked["resume"]  # NOT_HASHED
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def read(folder: Path, where: str) -> dict:
    """The record in a run's folder. Raises ConfigError, beginning with `where`, when there is none."""
    try:
        record = json.loads((folder / "result.json").read_text())
    except OSError as error:
        raise ConfigError(f"{where}: no run left its record there (result.json: {error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{where}: its result.json is no record ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise ConfigError(f"{where}: its result.json is no record of schema {SCHEMA}")
    return record


def find(root: Path, wanted: str, pattern: str = "**/result.json") -> list[tuple[Path, dict]]:
    """(folder, record) of every run under `root` whose config_hash is `wanted`, the newest first."""
    found = []
    for path in sorted(root.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # not a record
        if isinstance(record, dict) and record.get("config_hash") == wanted:
            found.append((path.parent, record))
    return found
