"""Which unfinished run a `resume` means, and that only one process trains in a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from minuteloop.records.record import NOT_HASHED, UNFINISHED, config_hash, find, read
from minuteloop.schema import Config
from minuteloop.validation import ConfigError, flat


def folder_for(asked: Config, given: Path, root: Path | None = None, depth: str = "*") -> Path:
    """Where the run of `asked` leaves its record: in `given`, or in the folder of the run that it resumes.

    That is the one named by `resume`; or `given` itself; or the newest unfinished run of an equal config that no other
    process trains, `depth` folders below `root` (where `given` lies). Raises ConfigError when the one named cannot be
    resumed.
    """
    if isinstance(asked.resume, str):
        if not Path(asked.resume).is_dir():
            raise ConfigError(f"resume={asked.resume}: no such folder; true, false or the folder of a run")
        unfinished(Path(asked.resume), asked, f"resume={asked.resume}")
        return Path(asked.resume)
    if asked.resume and not (given / "result.json").exists():
        for folder, record in find(root or given.parent, config_hash(asked), f"{depth}/result.json"):
            if record["status"] in UNFINISHED and not _is_locked(folder):
                return folder
    return given


def unfinished(folder: Path, asked: Config, where: str) -> dict:
    """The record in `folder`. Raises ConfigError, beginning with `where`, unless it is that of an unfinished run of
    the config asked."""
    record = read(folder, where)
    if record["config_hash"] != config_hash(asked):
        now = flat(dataclasses.asdict(asked))
        then = flat(record["config"]) | record["asked"] if record["config"] else {}
        differ = [key for key in now | then if now.get(key) != then.get(key) and not key.startswith(NOT_HASHED)]
        told = f", with {differ[0]}={then.get(differ[0])}, not {now.get(differ[0])}" if then and differ else ""
        raise ConfigError(f"{where}: is a run of another config{told}")
    if record["status"] not in UNFINISHED:
        raise ConfigError(f"{where}: that run is {record['status']}, nothing is left to resume")
    return record


def earlier(asked: Config, folder: Path) -> dict | None:
    """The record in `folder` that a run of `asked` goes on from; None where there is none.

    Raises ConfigError for a record that it may not touch.
    """
    if not (folder / "result.json").exists():
        return None
    if asked.resume is False:
        raise ConfigError(f"hydra.run.dir={folder}: holds the record of another run")
    return unfinished(folder, asked, f"hydra.run.dir={folder}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other runs out of `folder`, until the process ends at the latest. Raises ConfigError while one is in."""
    descriptor = _lock(folder)
    if descriptor is None:
        raise ConfigError(f"{folder}: another process trains there")
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """An open descriptor that holds `folder` until it is closed; None while another holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass  # some network file systems lock no folders
    return descriptor


def _is_locked(folder: Path) -> bool:
    descriptor = _lock(folder)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None
