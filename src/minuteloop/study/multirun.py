"""A Hydra multirun: all cells are checked before the first trains, each trains in its own process, a table ends it.

A cell that has finished before with the same code on the same machine is not run again, so that the same command
restarts a killed sweep and extends a small one. This holds for every launcher of Hydra.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from minuteloop.config.compose import CONF, checked, without_hydra
from minuteloop.config.composed_files import as_typed
from minuteloop.config.errors import exit_on_user_error, is_user_error, one_line
from minuteloop.records.run_log import logging_to
from minuteloop.records.terminal import drop_lost_output
from minuteloop.schema import Config
from minuteloop.study.arms_figure import draw_arms
from minuteloop.study.cell import NOT_RUN, NOTES, Cell, is_seed, read_cells
from minuteloop.study.cell_process import train_in_process
from minuteloop.study.earlier_records import finished_before, record_parents
from minuteloop.study.sweep_table import sweep_table
from minuteloop.training import arm_rate, resume
from minuteloop.validation import ConfigError

STOP = "stop"  # a file in the sweep's folder: Ctrl-C was pressed; cells on any machine see it

log = logging.getLogger("minuteloop")


class CellFailed(HydraException):
    """A cell did not finish; raised for a sweeper that learns from its trials."""

    exit_code = 1  # of the command


class Sweep(Callback):
    """Checks all cells before anything is written; on Ctrl-C asks running cells to finish gracefully."""

    folder: ClassVar[Path | None] = None  # of the sweep that this process launched
    lock: ClassVar[contextlib.ExitStack] = contextlib.ExitStack()  # keeps other sweeps out of the folder

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Hydra's hook. Ends the program with one line where a cell's config is wrong."""
        folder = Sweep.folder = Path(config.hydra.sweep.dir)
        rerun = False
        _put_seeds_first(config)
        cells = _grid_cells(config)
        for number, overrides in enumerate(cells, start=1):
            which = f"cell {number} of {len(cells)} ({' '.join(overrides)}): " if len(cells) > 1 else ""
            with exit_on_user_error(CONF, overrides, prefix=which):
                cfg = GlobalHydra.instance().config_loader().load_sweep_config(config, overrides)
                rerun = checked(without_hydra(cfg), cfg.hydra).rerun or rerun
        with exit_on_user_error(CONF, []):
            resume.make_folder(folder / NOTES, "hydra.sweep.dir")
            another = f"hydra.sweep.dir={folder}: another sweep runs there; give each a folder of its own"
            Sweep.lock.enter_context(resume.locked(folder / NOTES, another))
        for leftover in (folder / STOP, *folder.glob(f"{NOTES}/*.json")):
            leftover.unlink(missing_ok=True)
        if rerun:
            shutil.rmtree(folder / arm_rate.FOLDER, ignore_errors=True)
        signal.signal(signal.SIGINT, _request_stop)


def _put_seeds_first(config: DictConfig) -> None:
    """Let seeds vary slowest in a grid, so that arms alternate and a drift of the machine meets them all alike.

    The first key varies slowest, and the parameters of a study come before what is typed, which replaces their values.
    """
    if not _is_grid(config.hydra):
        return
    params, typed = dict(config.hydra.sweeper.params or {}), config.hydra.overrides.task
    keys = [override.partition("=")[::2] for override in typed if is_seed(override)]
    keys = keys or [(key, value) for key, value in params.items() if is_seed(f"{key}=")]
    if keys:
        key, value = keys[-1]
        with read_write(config.hydra), open_dict(config.hydra.sweeper):
            config.hydra.sweeper.params = {key: value} | {name: params[name] for name in params if name != key}


def _grid_cells(config: DictConfig) -> list[list[str]]:
    """Return the overrides of every cell, or none where they are not known in advance: a sweeper that learns."""
    if not _is_grid(config.hydra):
        return []
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    (cells,) = BasicSweeper.split_arguments(
        parser.parse_overrides([*params, *as_typed(config.hydra.overrides.task)]), None
    )
    return cells


def _is_grid(settings: DictConfig) -> bool:
    return settings.sweeper._target_.endswith(".BasicSweeper")


def _request_stop(*_: Any) -> None:
    if not Sweep.folder.is_dir():
        raise KeyboardInterrupt
    (Sweep.folder / STOP).touch()
    signal.signal(signal.SIGINT, _stop_immediately)
    with logging_to():
        log.info("stopping the sweep after the running cells have saved; press Ctrl-C again to stop immediately")


def _stop_immediately(*_: Any) -> None:
    raise KeyboardInterrupt


def run_cell(cfg: DictConfig, settings: DictConfig) -> float | None:
    """Train one cell unless it has finished before, write its note, and return its val/acc.

    A cell that fails returns None, so that the others run; a sweeper other than Hydra's basic one gets CellFailed.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a launcher's worker: Ctrl-C arrives as the file STOP
    drop_lost_output()
    made, sweep = Path(settings.runtime.output_dir), Path(settings.sweep.dir)
    cell = Cell(settings.job.num, as_typed(settings.overrides.task), made)
    with logging_to():
        try:
            cell = _train_or_reuse(cell, checked(cfg, settings), sweep)
        except Exception as error:
            if not is_user_error(error):
                raise
            cell = replace(cell, error=one_line(error, CONF, cell.overrides))
        with contextlib.suppress(OSError):
            made.rmdir()  # made by Hydra; only where it is empty
        cell.save(sweep)
        failure = cell.failure()
        if failure and failure != NOT_RUN:
            log.info(f"{cell.label()}: {failure}")
    if not failure:
        return cell.record()["metrics"].get("val/acc")
    if not _is_grid(settings):
        raise CellFailed(f"{cell.label()}: {failure}")
    return None


def _train_or_reuse(cell: Cell, config: Config, sweep: Path) -> Cell:
    """Return the cell with the folder of its record, and in `error` what to report where it has none."""
    if config.logger.group is None and not os.environ.get("WANDB_RUN_GROUP"):
        config = replace(config, logger=replace(config.logger, group=sweep.resolve().name[:128]))
    finished, again = finished_before(sweep, config)
    if finished:
        log.info(f"{cell.label()}: finished before, {finished} (rerun=true trains it again)")
        return replace(cell, folder=finished)
    if (sweep / STOP).exists():
        return replace(cell, error=NOT_RUN)
    if again:
        log.info(f"{cell.label()}: run again: {again}")
    folder = _folder_to_train_in(config, cell.folder, sweep)
    cell = replace(cell, folder=folder, error="killed before it wrote a record", again=again)
    cell.save(sweep)  # in case this process is killed too
    ended = train_in_process(config, folder, sweep, sweep / STOP)
    return replace(cell, error=NOT_RUN if (sweep / STOP).exists() else f"ended before it wrote a record ({ended})")


def _folder_to_train_in(config: Config, default: Path, sweep: Path) -> Path:
    """Return the folder of the run that the cell resumes, or a free one; records of an earlier sweep are kept."""
    folder = resume.folder_for(config, default, record_parents(sweep))
    while (folder / "result.json").exists() and not _can_continue(config, folder):
        folder = folder.with_name(f"{folder.name}-again")
    return folder


def _can_continue(config: Config, folder: Path) -> bool:
    try:
        return resume.earlier_attempt(config, folder) is not None
    except ConfigError:
        return False


def end() -> int:
    """Print the table of the sweep that this process launched, and write it to table.md, its figure to arms.png.

    Returns the exit code: 0 = every cell finished (or there was no sweep), 1 = some did not, 130 = Ctrl-C.
    """
    with Sweep.lock:
        return 0 if Sweep.folder is None or not Sweep.folder.is_dir() else _end(Sweep.folder)


def _end(folder: Path) -> int:
    stopped = (folder / STOP).exists()
    (folder / STOP).unlink(missing_ok=True)
    cells = read_cells(folder)
    if not cells:
        return 1
    text = sweep_table(cells, folder)
    (folder / "table.md").write_text(text)
    with logging_to():
        log.info(text)
        draw_arms(cells, folder)
    return 130 if stopped else int(any(cell.failure() or cell.record()["status"] == "overrun" for cell in cells))
