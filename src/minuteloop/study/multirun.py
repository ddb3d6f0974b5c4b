"""A Hydra multirun: all cells are checked before the first trains, each trains in its own process, a report ends it.

A cell that has finished before with the same code on the same machine is not run again, so that the same command
restarts a killed sweep and extends a small one. This holds for every launcher of Hydra.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from minuteloop.config.compose import CONF, checked, compose
from minuteloop.config.composed_files import as_typed
from minuteloop.config.errors import exit_on_user_error, is_user_error, one_line
from minuteloop.records.record import config_hash
from minuteloop.records.run_log import logging_to
from minuteloop.records.terminal import drop_lost_output
from minuteloop.schema import Config
from minuteloop.study import design
from minuteloop.study.cell import NOT_RUN, NOTES, Cell, is_seed, read_cells
from minuteloop.study.design import Study, key_of, plan_lines
from minuteloop.study.earlier_records import EARLIER, note_earlier, unfinished
from minuteloop.study.grid import grid, is_grid
from minuteloop.study.progress import Progress
from minuteloop.study.train_cell import train_or_reuse
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
    progress: ClassVar[Progress | None] = None  # of that sweep, where its cells are known in advance
    lock: ClassVar[contextlib.ExitStack] = contextlib.ExitStack()  # keeps other sweeps out of the folder

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Hydra's hook. Ends the program with one line where a cell's config is wrong."""
        folder = Sweep.folder = Path(config.hydra.sweep.dir)
        with exit_on_user_error(CONF, as_typed(config.hydra.overrides.task)):
            study, cells = grid(config)
        configs = _check_cells(config, cells)
        with exit_on_user_error(CONF, []):
            if study:
                _check_arms_differ(study, configs)
            resume.make_folder(folder / NOTES, "hydra.sweep.dir")
            another = f"hydra.sweep.dir={folder}: another sweep runs there; give each a folder of its own"
            Sweep.lock.enter_context(resume.locked(folder / NOTES, another))
        for leftover in (folder / STOP, folder / design.FILE, folder / EARLIER, *folder.glob(f"{NOTES}/*.json")):
            leftover.unlink(missing_ok=True)
        if any(config.rerun for config in configs):
            shutil.rmtree(folder / arm_rate.FOLDER, ignore_errors=True)
        if configs:
            note_earlier(folder, configs)
        if study:
            _start_study(study, configs, folder)
        Sweep.progress = Progress([config.budget for config in configs]) if configs else None
        signal.signal(signal.SIGINT, _request_stop)


def _check_cells(config: DictConfig, cells: list[list[str]]) -> list[Config]:
    """Return the checked config of each cell; end the program with one line where one is wrong.

    Only the rule of `seed` reads the seed: of cells that differ in it the first is checked, and each seed once.
    """
    arms: dict[tuple[str, ...], Config] = {}
    seeds: dict[tuple[str, ...], int] = {}
    configs = []
    for number, overrides in enumerate(cells, start=1):
        arm, seed = tuple(word for word in overrides if not is_seed(word)), tuple(filter(is_seed, overrides))
        if arm not in arms or seed not in seeds:
            which = f"cell {number} of {len(cells)} ({' '.join(overrides)}): " if len(cells) > 1 else ""
            with exit_on_user_error(CONF, overrides, prefix=which):
                cfg = GlobalHydra.instance().config_loader().load_sweep_config(config, overrides)
                cell = checked(cfg, cfg.hydra)
            arms.setdefault(arm, cell)
            seeds[seed] = cell.seed
        configs.append(replace(arms[arm], seed=seeds[seed]))
    return configs


def _start_study(study: Study, configs: list[Config], sweep: Path) -> None:
    """Write the study into the sweep's folder; log what it asks and what answering it costs."""
    study.save(sweep)
    left = [config.budget for config in unfinished(sweep, configs)]
    with logging_to():
        for line in plan_lines(study, left, len(configs) - len(left)):
            log.info(line)


def _check_arms_differ(study: Study, configs: list[Config]) -> None:
    """Raise ConfigError for an arm that trains the same config as another."""
    hashes: dict[str, str] = {}
    for name, config in zip(itertools.cycle(study.arms), configs, strict=False):  # arms vary fastest
        other = hashes.setdefault(config_hash(config), name)
        if other != name:
            raise ConfigError(f"study: arm {name} trains the same config as arm {other}; remove one of them")


def _request_stop(*_: Any) -> None:
    if not Sweep.folder.is_dir():
        raise KeyboardInterrupt
    (Sweep.folder / STOP).touch()
    signal.signal(signal.SIGINT, _stop_immediately)
    with logging_to():
        log.info("stopping the sweep after the running cells have saved; press Ctrl-C again to stop immediately")


def _stop_immediately(*_: Any) -> None:
    raise KeyboardInterrupt


def run_task(cfg: DictConfig, settings: DictConfig) -> float | None:
    """Train the cells of one task of the launcher, one after the other, and return the last one's val/acc.

    The process that their processes are forked from imports torch once for all. `cfg` is the config of the first cell;
    its key `cells` holds the overrides of the others.
    """
    made = _enter_launch_folder(settings)
    typed, sweep = as_typed(settings.overrides.task), Path(settings.sweep.dir)
    if "cells" not in cfg:
        cell = Cell(settings.job.num, typed, made)
        return run_cell(cell, lambda: checked(cfg, settings), settings)
    folder = next((source.path for source in settings.runtime.config_sources if source.provider == "command-line"), "")
    first = [word for word in typed if key_of(word) != "cells"]
    accuracy = None
    for place, overrides in enumerate([first, *OmegaConf.to_container(cfg["cells"])]):
        number = settings.job.num * settings.sweeper.cells_per_task + place
        read = partial(compose, overrides, settings.job.config_name, folder)
        accuracy = run_cell(Cell(number, overrides, sweep / f"cell-{number}"), read, settings)
    return accuracy


def _enter_launch_folder(settings: DictConfig) -> Path:
    """Change to the folder where the sweep was launched; return the folder that Hydra gives the task there.

    A worker of Ray starts in another, and Hydra has made the task's folder there.
    """
    made, launched = Path(settings.runtime.output_dir), Path(settings.runtime.cwd)
    if not launched.is_dir() or launched.samefile("."):
        return made
    if Path.cwd() in made.parents:  # a relative hydra.sweep.dir
        relative = made.relative_to(Path.cwd())
        with contextlib.suppress(OSError):
            os.removedirs(relative)
        made = launched / relative
    os.chdir(launched)
    return made


def run_cell(cell: Cell, read: Callable[[], Config], settings: DictConfig) -> float | None:
    """Train one cell, whose config `read` returns, unless it has finished before; write its note, return its val/acc.

    A cell that fails returns None, so that the others run; a sweeper other than Hydra's basic one gets CellFailed.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a launcher's worker: Ctrl-C arrives as the file STOP
    drop_lost_output()
    sweep = Path(settings.sweep.dir)
    with logging_to():
        try:
            trains = Sweep.progress.cell(cell.number) if Sweep.progress else contextlib.nullcontext()  # in a worker
            cell = train_or_reuse(cell, read(), sweep, sweep / STOP, trains)
        except Exception as error:
            if not is_user_error(error):
                raise
            cell = replace(cell, error=one_line(error, CONF, cell.overrides))
        with contextlib.suppress(OSError):
            Path(settings.runtime.output_dir).rmdir()  # made by Hydra; only where it is empty
        cell.save(sweep)
        failure = cell.failure()
        if failure and failure != NOT_RUN:
            log.info(f"{cell.label()}: {failure}")
    if not failure:
        return cell.record()["metrics"].get("val/acc")
    if not is_grid(settings):
        raise CellFailed(f"{cell.label()}: {failure}")
    return None


def end(summarize: Callable[[Path], str]) -> int:
    """Log what `summarize` returns for the folder of the sweep that this process launched.

    Returns the exit code: 0 = every cell finished (or there was no sweep), 1 = some did not, 130 = Ctrl-C.
    """
    with Sweep.lock:
        return 0 if Sweep.folder is None or not Sweep.folder.is_dir() else _end(Sweep.folder, summarize)


def _end(folder: Path, summarize: Callable[[Path], str]) -> int:
    Sweep.progress, stopped = None, (folder / STOP).exists()
    (folder / STOP).unlink(missing_ok=True)
    cells = read_cells(folder)
    if not cells:
        return 1
    with logging_to():
        log.info(summarize(folder))
        log.info(f"more, or as a page: minuteloop report {shlex.quote(str(folder))} --html page.html")
    return 130 if stopped else int(any(cell.failure() or cell.record()["status"] == "overrun" for cell in cells))
