"""How a run resumes: which unfinished run `resume` means, and that one process at most trains in a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from minuteloop.records.record import CHECKPOINT, NOT_HASHED, UNFINISHED, config_hash, find_records, read_record
from minuteloop.schema import Config
from minuteloop.training.checksum import read_checked
from minuteloop.validation import ConfigError, flat


def folder_for(asked: Config, default: Path, earlier: list[tuple[Path, dict]] | None = None) -> Path:
    """Return the folder of the run of `asked`: `default`, or that of the run it resumes.

    With resume=FOLDER that is FOLDER; with resume=true it is `default` if that holds a run, else the newest unfinished
    run of an equal config that no other process trains: of `earlier` records, by default of those beside `default`.

    Raises:
        ConfigError: if the run that resume=FOLDER names cannot be resumed.
    """
    if isinstance(asked.resume, str):
        if not Path(asked.resume).is_dir():
            raise ConfigError(f"resume={asked.resume}: no such folder; must be true, false or the folder of a run")
        read_unfinished(Path(asked.resume), asked, f"resume={asked.resume}")
        return Path(asked.resume)
    if asked.resume and not (default / "result.json").exists():
        for folder, record in find_records([default.parent], config_hash(asked)) if earlier is None else earlier:
            if record["status"] in UNFINISHED and not is_locked(folder):
                return folder
    return default


def make_folder(folder: Path, key: str = "hydra.run.dir") -> None:
    """Make the folder that `key` names, with its parents. Raises ConfigError where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{key}={folder}: must be a folder that can be made, got: {error.strerror}") from error


def read_unfinished(folder: Path, asked: Config, where: str) -> dict:
    """Return the record in `folder`.

    Raises:
        ConfigError: starting with `where`, unless it is that of an unfinished run of the config asked.
    """
    record = read_record(folder, where)
    if record["config_hash"] != config_hash(asked):
        now = flat(dataclasses.asdict(asked))
        then = _as_asked(record) if record["config"] else {}
        changed = [key for key in now | then if now.get(key) != then.get(key) and not key.startswith(NOT_HASHED)]
        detail = f" ({changed[0]} was {then.get(changed[0])}, now {now.get(changed[0])})" if then and changed else ""
        raise ConfigError(f"{where}: started with a different config{detail}")
    if record["status"] not in UNFINISHED:
        raise ConfigError(f"{where}: this run is {record['status']}; there is nothing to resume")
    return record


def _as_asked(record: dict) -> dict:
    """Return the record's config as it was asked for, flat; recipe.strength is resolved to a mapping."""
    asked, resolved = record["asked"], flat(record["config"])
    return {key: value for key, value in resolved.items() if not key.startswith(tuple(f"{a}." for a in asked))} | asked


def earlier_attempt(asked: Config, folder: Path) -> dict | None:
    """Return the record in `folder` that a run of `asked` continues, or None where there is none.

    Raises:
        ConfigError: for a record that the run must not change, or a damaged checkpoint.
    """
    if not (folder / "result.json").exists():
        return None
    if asked.resume is False:
        raise ConfigError(f"hydra.run.dir={folder}: holds the record of another run; add resume=true to continue it")
    record = read_unfinished(folder, asked, f"hydra.run.dir={folder}")
    if (folder / CHECKPOINT).exists():
        read_checked(folder / CHECKPOINT)
    return record


@contextlib.contextmanager
def locked(folder: Path, error: str = "") -> Iterator[None]:
    """Keep other runs out of `folder`, until the process ends at the latest.

    Raises:
        ConfigError: while one is in it; `error` is another message.
    """
    descriptor = _lock(folder)
    if descriptor is None:
        raise ConfigError(error or f"{folder}: another process trains there")
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """Return an open descriptor that locks `folder` until it is closed; None while another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass  # some network file systems lock no folders
    return descriptor


def is_locked(folder: Path) -> bool:
    """Return whether another process trains in a folder that may be missing."""
    if not folder.is_dir():
        return False
    descriptor = _lock(folder)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None
