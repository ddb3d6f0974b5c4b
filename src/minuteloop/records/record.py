"""result.json: the record of a run, which everything else reads."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Container, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from minuteloop.records import environment
from minuteloop.schema import Config
from minuteloop.validation import ConfigError, flat

SCHEMA = 1
UNFINISHED = ("failed", "interrupted")  # what can be resumed
NOT_HASHED = ("logger", "name", "data.root", "resume", "rerun", "test")
NOT_OF_TRAINING = ("hydra.", "hydra/", "resume=", "rerun=")  # overrides that say where or how often
CHECKPOINT, WEIGHTS = "last.ckpt", "model.safetensors"  # files of a run
KILLED = "the process was killed"  # what a record says until the run ends in another way


class Record:
    """Run record. First written once the plan is frozen, with status "failed", so that a killed process leaves a
    truthful record.

    With the record of an `earlier` attempt it continues that one: `plan` is then the frozen plan and `frozen_config`
    the resolved config; otherwise both are None. `seconds` is a live dict, such as that of a Stopwatch; `overrides`
    are those that were typed; the record keeps those that say what is trained.
    """

    def __init__(
        self,
        asked: Config,
        folder: Path,
        seconds: dict[str, float],
        earlier: dict | None = None,
        overrides: Iterable[str] = (),
    ) -> None:
        self.asked = self.config = dataclasses.replace(asked, resume=False)
        self.folder, self.plan, self.frozen_config = folder, None, None
        self.label = asked.name  # on the terminal
        self.content = {
            "schema": SCHEMA,
            "status": "failed",
            "error": KILLED,
            "attempts": 1,
            "seed": asked.seed,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "overrides": [word for word in overrides if not word.lstrip("+~").startswith(NOT_OF_TRAINING)],
            "config": {},
            "asked": {},
            "config_hash": config_hash(asked),
            "code": environment.describe_code(asked.recipe),
            "host": {},
            "versions": environment.versions(),
            "plan": {},
            "steps": 0,
            "metrics": {},
            "seconds": seconds,
            "cost": {},
            "rate": {},
            "pace": {},
            "wandb_id": None,
            "files": {},
        }
        if earlier:
            self._continue(earlier)

    def _continue(self, earlier: dict) -> None:
        self.content |= {key: earlier[key] for key in ("config", "asked", "host", "plan", "cost")}
        for key in ("date", "overrides"):
            self.content[key] = earlier.get(key, self.content[key])
        self.content["rate"] = earlier.get("rate", {})
        self.content["attempts"] += earlier["attempts"]
        self.content["wandb_id"] = earlier.get("wandb_id")
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        if earlier["plan"]:
            self.plan = earlier["plan"]
            self.frozen_config = earlier["config"] | {
                "name": self.asked.name,
                "test": self.asked.test,
                "logger": dataclasses.asdict(self.asked.logger),
                "data": earlier["config"]["data"] | {"root": self.asked.data.root},
            }
        code = self.content["code"]
        if code["hash"] not in earlier["code"]["hash"].split("+"):
            self.content["code"] = code | {"hash": f"{earlier['code']['hash']}+{code['hash']}"}  # made by both

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file, which exists only while the run is unfinished."""
        return self.folder / CHECKPOINT

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to resume."""
        return self.content["status"] not in UNFINISHED

    def freeze(self, plan: dict, cost: dict) -> None:
        """Write the plan, the resolved config and the net's cost, before step 1."""
        frozen = {key: plan[key] for key in ("lr", "weight_decay", "strength")}
        recipe = dataclasses.replace(self.config.recipe, **frozen)
        self.config = dataclasses.replace(self.config, recipe=recipe)
        config = dataclasses.asdict(self.config)
        resolved, asked = flat(config), flat(dataclasses.asdict(self.asked))
        self.content |= {
            "config": config,
            "asked": {key: value for key, value in asked.items() if value != resolved.get(key)},
            "host": environment.describe_host(self.config.device),
            "plan": plan,
            "cost": cost,
        }
        self.write("config.yaml", yaml.safe_dump(config, sort_keys=False).encode())
        self.save()

    def write_weights(self, content: bytes) -> None:
        """Write the trained weights, and keep their SHA-256 in `files`."""
        self.write(WEIGHTS, content)
        self.content["files"][WEIGHTS] = hashlib.sha256(content).hexdigest()

    def add_metrics(self, metrics: dict[str, float]) -> None:
        """Keep the metrics of an evaluation. Raises FloatingPointError where one is not finite."""
        self.content["metrics"] |= {key: value for key, value in metrics.items() if "/" in key}
        for key, value in self.content["metrics"].items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{key} is {value} after the last step; lower recipe.lr")

    def finish(self, status: str, steps: int, peak_memory: int, cores_of_others: float) -> None:
        """Write the record of a run that ended after `steps` steps.

        `peak_memory` is in bytes; other processes kept `cores_of_others` cores busy during training.
        """
        plan = self.content["plan"]
        rate = steps / self.content["seconds"]["train"]
        planned = plan["steps"] / plan["seconds_asked"] if plan["seconds_asked"] else None
        self.content |= {"status": status, "error": None, "steps": steps}
        self.content["cost"] |= {
            "images_per_second": rate * plan["batch_size"],
            "peak_memory_bytes": peak_memory,
        }
        self.content["pace"] = {
            "steps_per_second": rate,
            "steps_per_second_planned": planned,
            "slowdown": planned / rate if planned else None,
            "cores_of_others": cores_of_others,
        }
        self.save()

    def fail(self, error: BaseException) -> None:
        """Write the first line of `error`, unless the run had finished before."""
        if self.is_finished:
            return
        status = "interrupted" if isinstance(error, SystemExit) else "failed"
        lines = str(error).strip().splitlines()
        message = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        self.content |= {"status": status, "error": message}
        self.save()

    def save(self) -> None:
        """Write result.json; a number that is not finite becomes null, since JSON has no other way to write it."""
        text = json.dumps(_finite(self.content), indent=2, allow_nan=False)
        self.write("result.json", text.encode() + b"\n")

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file of the run atomically: to a temporary name, synced, then renamed.

        Raises:
            OSError: which names the file.
        """
        temporary = self.folder / f"{name}.tmp"
        with named_os_errors(self.folder / name):
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
            with contextlib.suppress(OSError):  # some network file systems sync no folders
                os.fsync(folder)
            os.close(folder)


def _finite(node: Any) -> Any:
    """Return `node` with None in place of every number that is not finite."""
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


@contextlib.contextmanager
def named_os_errors(path: Path) -> Iterator[None]:
    """Make OSErrors raised inside name the file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def config_hash(config: Config) -> str:
    """Return a hash of the config as asked, without NOT_HASHED: equal for runs that ask for the same training."""
    asked = dataclasses.asdict(config)
    del asked["data"]["root"]
    asked = {key: value for key, value in asked.items() if key not in NOT_HASHED}
    if asked["devices"] == 1:
        del asked["devices"]  # records from before this key have the hash that they had
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def read_record(folder: Path, where: str) -> dict:
    """Return the record in a run's folder. Raises ConfigError, whose message starts with `where`, if there is none."""
    try:
        record = json.loads((folder / "result.json").read_text())
    except OSError as error:
        raise ConfigError(f"{where}: has no result.json of a run ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{where}: result.json is not valid JSON ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise ConfigError(f"{where}: result.json is not a record of schema {SCHEMA}")
    return record


def find_records(parents: Iterable[Path], wanted: str) -> list[tuple[Path, dict]]:
    """Return (folder, record) of every run directly below one of `parents` whose config_hash is `wanted`.

    The newest comes first.
    """
    return read_records((path for parent in parents for path in parent.glob("*/result.json")), {wanted})


def read_records(paths: Iterable[Path], wanted: Container[str]) -> list[tuple[Path, dict]]:
    """Return (folder, record) of every result.json whose config_hash is `wanted`, the newest first."""
    found = []
    for path in paths:
        try:
            record, age = json.loads(path.read_text()), path.stat().st_mtime
        except (OSError, ValueError):
            continue  # not a record
        if isinstance(record, dict) and record.get("config_hash") in wanted:
            found.append((age, path.parent, record))
    return [(folder, record) for _, folder, record in sorted(found, key=lambda one: one[0], reverse=True)]
