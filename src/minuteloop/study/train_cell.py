"""Train a cell of a sweep, unless a run of the same config, code and machine has finished before."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from minuteloop.schema import Config, Logger
from minuteloop.study.cell import NOT_RUN, Cell, read_cell
from minuteloop.study.cell_process import train_in_process
from minuteloop.study.design import Study, read_study
from minuteloop.study.earlier_records import earlier_records, finished_before
from minuteloop.training import resume
from minuteloop.validation import ConfigError

ENDED = ("finished", "overrun")
PATIENCE = 60.0  # seconds that the process of a dead task has to save its checkpoint

log = logging.getLogger("minuteloop")


def train_or_reuse(
    cell: Cell,
    config: Config,
    sweep: Path,
    stop: Path,
    progress: contextlib.AbstractContextManager,
    is_enough: Callable[[Path], bool] | None = None,
) -> Cell:
    """Return the cell with the folder of its record, and in `error` what to report where it has none.

    When a launcher restarts a task, a cell that this sweep has started before resumes from its checkpoint.
    It trains within `progress`; see train_in_process for `stop` and `is_enough`.
    """
    config = replace(config, logger=_logger(config.logger, read_study(sweep), cell, sweep))
    started = read_cell(sweep, cell.number)
    status = _status_when_free(started) if started else None
    if status in ENDED:
        return started
    if status:
        log.info(f"{cell.label()}: was interrupted in this sweep; resuming")
        cell, config = started, replace(config, resume=True)
    earlier = earlier_records(sweep, config)
    finished, again = (None, cell.again) if status else finished_before(sweep, config, earlier)
    if finished:
        log.info(f"{cell.label()}: finished before, {finished} (rerun=true trains it again)")
        return replace(cell, folder=finished)
    if stop.exists():
        return replace(cell, error=NOT_RUN)
    if again:
        log.info(f"{cell.label()}: run again: {again}")
    folder = _folder_to_train_in(config, cell.folder, earlier)
    cell = replace(cell, folder=folder, error="killed before it wrote a record", again=again)
    cell.save(sweep)  # in case this process is killed too
    with progress:
        ended = train_in_process(config, folder, sweep, stop, cell.overrides, is_enough)
    return replace(cell, error=NOT_RUN if stop.exists() else f"ended before it wrote a record ({ended})")


def _status_when_free(cell: Cell) -> str | None:
    """Return the status of a cell's record, or None without one; wait while an earlier process still saves it."""
    until = time.monotonic() + PATIENCE
    while resume.is_locked(cell.folder) and time.monotonic() < until:
        time.sleep(0.2)
    record = cell.record()
    return record["status"] if record else None


def _logger(logger: Logger, study: Study | None, cell: Cell, sweep: Path) -> Logger:
    """Return the logger's settings with what W&B shows the runs of a sweep, or of a study, together by."""
    if logger.group is None and not os.environ.get("WANDB_RUN_GROUP"):
        logger = replace(logger, group=(study.name if study else sweep.resolve().name)[:128])
    if study is None:
        return logger
    if logger.job_type is None and not os.environ.get("WANDB_JOB_TYPE"):
        logger = replace(logger, job_type="study")
    tags = logger.tags or [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]
    names = [study.name, study.arm_of(cell.overrides)]
    return replace(logger, tags=[*tags, *(name[:64] for name in names if name)])


def _folder_to_train_in(config: Config, default: Path, earlier: list[tuple[Path, dict]]) -> Path:
    """Return the folder of the run that the cell resumes, or a free one; records of an earlier sweep are kept."""
    folder = resume.folder_for(config, default, earlier)
    while (folder / "result.json").exists() and not _can_continue(config, folder):
        folder = folder.with_name(f"{folder.name}-again")
    return folder


def _can_continue(config: Config, folder: Path) -> bool:
    try:
        return resume.earlier_attempt(config, folder) is not None
    except ConfigError:
        return False
