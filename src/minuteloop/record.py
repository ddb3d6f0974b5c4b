"""result.json: the record of a run that everything else reads, and what is said of it at the start and the end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import yaml

from minuteloop import host
from minuteloop.plan import Plan
from minuteloop.schema import Config, ConfigError, flat

SCHEMA = 1
PHASES = ("setup", "calibrate", "compile", "train", "eval", "log")


class Record:
    """Grows while a run goes on. It is on disk from the plan on, with a status that is true if the run dies."""

    def __init__(self, asked: Config, folder: Path, started: float) -> None:
        self.asked = self.config = asked
        self.folder, self.started, self._lap = folder, started, started
        if (folder / "result.json").exists():
            raise ConfigError(f"hydra.run.dir={folder}: holds the record of another run")
        folder.mkdir(parents=True, exist_ok=True)
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
            "metrics": {},
            "seconds": dict.fromkeys((*PHASES, "total"), 0.0),
            "cost": {},
        }

    def lap(self, phase: str, **inside: float) -> None:
        """Books the time since the last lap on `phase`, less the seconds of other phases that passed `inside` it."""
        now = time.perf_counter()
        seconds = self.content["seconds"]
        seconds[phase] += now - self._lap - sum(inside.values())
        for other, passed in inside.items():
            seconds[other] += passed
        self._lap, seconds["total"] = now, now - self.started

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
        plan, config = self.content["plan"], self.config
        asked = plan["seconds_asked"]
        end = f", {asked:g} s, until about {datetime.now() + timedelta(seconds=asked):%H:%M:%S}" if asked else ""
        replaced = "".join(f"{new} replaces {old}\n" for old, new in config.arch.replaced.items())
        return replaced + (
            f"{config.name} on {config.data.name}: {plan['steps']:,} steps of {plan['batch_size']} "
            f"({plan['epochs']:.2f} epochs), lr {plan['lr']:.3g}, strength {plan['strength']:g}, "
            f"{config.device} {config.precision}, {config.threads} threads{end}; record in {self.folder}"
        )

    def evaluated(self, metrics: dict[str, float]) -> None:
        """Keeps the figures of an evaluation."""
        self.content["metrics"] |= {key: value for key, value in metrics.items() if "/" in key}

    def finish(self, status: str, steps: int) -> None:
        """The record of a run that ended, after `steps` steps."""
        seconds = self.content["seconds"]
        self.content |= {"status": status, "error": None}
        self.content["cost"] |= {
            "images_per_second": steps * self.content["plan"]["batch_size"] / seconds["train"],
            "peak_memory_bytes": host.peak_memory(self.config.device),
        }
        self.save()

    def fail(self, error: BaseException, status: str = "failed") -> None:
        """Keeps an error's one line; the config may not be resolved yet."""
        lines = str(error).strip().splitlines()
        told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        self.content |= {"status": status, "error": told}
        self.save()

    def save(self) -> None:
        """Writes result.json; a figure that is not a number becomes null, which JSON has."""
        text = json.dumps(self.content, indent=2).replace(": NaN", ": null").replace(": Infinity", ": null")
        self.write("result.json", text.encode() + b"\n")

    def write(self, name: str, content: bytes) -> None:
        """Writes a file of the run whole or not at all: to a temporary name, synced, then renamed."""
        temporary = self.folder / f"{name}.tmp"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / name)

    def table(self) -> str:
        """The lines that end a run."""
        metrics, seconds, cost, plan = (self.content[key] for key in ("metrics", "seconds", "cost", "plan"))
        asked = f" of {plan['seconds_asked']:g} s" if plan["seconds_asked"] else ""
        phases = ", ".join(f"{phase} {seconds[phase]:.1f}" for phase in PHASES if phase != "train")
        rows = [
            (name, f"{100 * metrics[f'{split}/acc']:.2f} %", f"loss {metrics[f'{split}/loss']:.4f}")
            for split, name in (("val", "validation"), ("test", "test"))
            if f"{split}/acc" in metrics
        ]
        rows += [
            ("training", f"{seconds['train']:.1f} s{asked}", f"{plan['steps']:,} steps"),
            ("in all", f"{seconds['total']:.1f} s", phases),
            ("speed", f"{cost['images_per_second']:,.0f} images/s", "forward and backward, measured"),
            ("net", f"{cost['params']:,} parameters", f"{cost['macs']:,} multiply-adds"),
            ("status", self.content["status"], str(self.folder)),
        ]
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"  {name:<{first}}  {value:>{second}}  {more}" for name, value, more in rows)


def config_hash(config: Config) -> str:
    """Equal for runs that ask for the same training: of the config as asked, without logger, name and folders."""
    asked = dataclasses.asdict(config)
    del asked["logger"], asked["name"], asked["data"]["root"]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def find(root: Path, wanted: str) -> list[tuple[Path, dict]]:
    """(folder, record) of every run under `root` whose config_hash is `wanted`, the newest first."""
    found = []
    for path in sorted(root.rglob("result.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # not a record
        if isinstance(record, dict) and record.get("config_hash") == wanted:
            found.append((path.parent, record))
    return found
