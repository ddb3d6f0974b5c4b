"""The rate of an arm of a sweep: measured by one of its cells, so that all its seeds train the same number of steps."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from minuteloop.records import environment
from minuteloop.records.machine import machine_of
from minuteloop.records.record import Record, config_hash
from minuteloop.schema import Config

FOLDER = "rates"  # in a sweep's folder, with a file for each arm and machine


@dataclass(frozen=True)
class ArmRate:
    """A measured rate: steps in a budget of seconds, and what it was measured with."""

    steps: int
    seconds: float
    threads: int
    busy: str | None  # in words, where other processes took cores meanwhile


class ArmRates:
    """The file with the rate of an arm: all overrides but the seed, on a machine, with the same code."""

    def __init__(self, sweep: Path, asked: Config, machine: dict[str, Any], code: str | None) -> None:
        """`machine` is that of records.machine; `code` is the hash of the source."""
        if asked.threads == "auto":  # the rate decides
            machine = machine | {"threads": "auto"}
        arm = json.dumps([config_hash(replace(asked, seed=0)), machine, code], sort_keys=True)
        self.name = f"{hashlib.sha256(arm.encode()).hexdigest()[:16]}.json"
        self.sweep, self.rerun = sweep, asked.rerun

    @contextlib.contextmanager
    def locked(self) -> Iterator[ArmRate | None]:
        """Give the arm's rate, or None where it is to be measured, which no other process does meanwhile."""
        folder = self.sweep / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / self.name).with_suffix(".lock").open("w") as lock:
            with contextlib.suppress(OSError):  # some network file systems lock nothing
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._find()

    def _find(self) -> ArmRate | None:
        """Return the rate in the sweep's folder, else, except with rerun=true, the newest in a sweep beside it."""
        path = self.sweep / FOLDER / self.name
        if path.exists():
            return ArmRate(**json.loads(path.read_text()))
        others = [] if self.rerun else self.sweep.parent.glob(f"*/{FOLDER}/{self.name}")
        newest = max(others, key=lambda other: other.stat().st_mtime, default=None)
        return self.save(ArmRate(**json.loads(newest.read_text()))) if newest else None

    def save(self, rate: ArmRate) -> ArmRate:
        """Write the rate to the sweep's folder, atomically, and return it.

        Where nothing is locked, another cell may have measured the arm meanwhile: the first rate is that of all.
        """
        path = self.sweep / FOLDER / self.name
        temporary = path.with_suffix(f".{uuid.uuid4().hex}")
        temporary.write_text(json.dumps(asdict(rate)) + "\n")
        try:
            os.link(temporary, path)  # fails where the file exists, also on network file systems
        except FileExistsError:
            rate = ArmRate(**json.loads(path.read_text()))
        except OSError:  # this one has no links
            temporary.replace(path)
        temporary.unlink(missing_ok=True)
        return rate


def arm_rates(record: Record, sweep: Path) -> ArmRates:
    """Return the rates of the arm of a run that is about to be built on this machine."""
    config = asdict(record.config)
    here = {"host": environment.describe_host(config["device"]), "config": config, "versions": environment.versions()}
    return ArmRates(sweep, record.asked, machine_of(here), record.content["code"]["hash"])
