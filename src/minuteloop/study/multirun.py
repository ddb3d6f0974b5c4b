"""A Hydra multirun: its cells are checked before the first trains, run one process each, and end in a table.

A cell that has finished before, with this code, is not run again, so that a killed sweep is restarted, and a small one
extended, with the same command. A process of its own keeps a cell's threads, compiled code, peak memory and death to
itself, whichever of Hydra's launchers runs it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from minuteloop import hardware as host
from minuteloop.config.compose import CONF, checked, without_hydra
from minuteloop.config.errors import is_mistake, one_line
from minuteloop.records import record
from minuteloop.schema import Config
from minuteloop.study import cell as sweep
from minuteloop.study.cell import NOT_RUN, Cell
from minuteloop.training import resume
from minuteloop.training.resume import folder_for
from minuteloop.validation import ConfigError

# imported once, in the process that cells are forked from; torch starts no thread and no device by being imported
HEAVY = [
    "torch",
    "pytorch_lightning",
    "torchmetrics.classification",
    "minuteloop.training.classifier",
    "minuteloop.data.datamodule",
]
STOP = "stop"  # a file in the sweep's folder: Ctrl-C was pressed, which cells on any machine see


class CellFailed(HydraException):
    """A cell did not finish; tells a sweeper that learns from its trials."""


class Sweep(Callback):
    """Checks all cells before anything is written, and turns Ctrl-C into a wish that cells follow one by one."""

    folder: ClassVar[Path | None] = None  # of the sweep that this process launched

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Hydra's hook. Ends the program with one line where a cell's config is wrong."""
        Sweep.folder = Path(config.hydra.sweep.dir)
        cells = _cells(config)
        for number, words in enumerate(cells, start=1):
            try:
                cfg = GlobalHydra.instance().config_loader().load_sweep_config(config, words)
                checked(without_hydra(cfg), cfg.hydra)
            except Exception as error:
                if not is_mistake(error):
                    raise
                which = f"cell {number} of {len(cells)} ({' '.join(words)}): " if len(cells) > 1 else ""
                sys.exit(f"error: {which}{one_line(error, CONF)}")
        for old in (self.folder / STOP, *self.folder.glob(f"{sweep.NOTES}/*.json")):
            old.unlink(missing_ok=True)
        signal.signal(signal.SIGINT, _stop)


def _cells(config: DictConfig) -> list[list[str]]:
    """The overrides of every cell; none where they are not known beforehand, as with a sweeper that learns."""
    if not _is_grid(config.hydra):
        return []
    words = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    (cells,) = BasicSweeper.split_arguments(parser.parse_overrides([*words, *config.hydra.overrides.task]), None)
    return cells


def _is_grid(settings: DictConfig) -> bool:
    return settings.sweeper._target_.endswith(".BasicSweeper")


def _stop(*_: Any) -> None:
    if not Sweep.folder.is_dir():
        raise KeyboardInterrupt
    (Sweep.folder / STOP).touch()
    signal.signal(signal.SIGINT, _stop_at_once)
    _say("stopping the sweep once the running cells have saved themselves; press Ctrl-C again to stop at once")


def _stop_at_once(*_: Any) -> None:
    raise KeyboardInterrupt


def cell(cfg: DictConfig, settings: DictConfig) -> float | None:
    """Trains one cell unless it has finished before, notes where its record is, and gives its val/acc.

    A cell that fails gives None, so that the others run; a sweeper other than Hydra's basic one gets CellFailed.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a launcher's worker: Ctrl-C comes through STOP
    made, root = Path(settings.runtime.output_dir), Path(settings.sweep.dir)
    here = Cell(settings.job.num, list(settings.overrides.task), made)
    try:
        _settle(here, checked(cfg, settings), root)
    except Exception as error:
        if not is_mistake(error):
            raise
        here.error = one_line(error, CONF)
    with contextlib.suppress(OSError):
        made.rmdir()  # by Hydra; only where it is empty
    here.save(root)
    if failure := here.failure():
        if failure != NOT_RUN:
            _say(f"{here.words()}: {failure}")
        if not _is_grid(settings):
            raise CellFailed(f"{here.words()}: {failure}")
        return None
    return here.record()["metrics"].get("val/acc")


def _settle(here: Cell, config: Config, root: Path) -> None:
    """Finds or makes the record of a cell of the sweep in `root`; without one, `here.error` says why."""
    if config.logger.group is None:
        config = replace(config, logger=replace(config.logger, group=root.name))
    if done := _finished_before(root.parent, config):
        here.folder = done
        _say(f"{here.words()}: finished before, {done}")
    elif (root / STOP).exists():
        here.error = NOT_RUN
    else:
        here.folder = folder_for(config, here.folder, root.parent, "*/*")
        # a record that is not gone on from is that of an earlier sweep in this hydra.sweep.dir
        while (here.folder / "result.json").exists() and not _goes_on(config, here.folder):
            here.folder = here.folder.with_name(f"{here.folder.name}-again")
        here.error = "killed before it left a record"
        here.save(root)  # what stands there should this process die too
        ended = _train_apart(config, here.folder, root / STOP)
        here.error = NOT_RUN if (root / STOP).exists() else f"ended before it left a record, {ended}"


def _goes_on(config: Config, folder: Path) -> bool:
    try:
        return resume.earlier(config, folder) is not None
    except ConfigError:
        return False


def _finished_before(root: Path, config: Config) -> Path | None:
    """The folder of a finished run under `root` of this config and this code."""
    for folder, found in record.find(root, record.config_hash(config)):
        if found["status"] == "finished" and found["code"].get("hash") == host.code(config.recipe)["hash"]:
            return folder
    return None


def _train_apart(config: Config, folder: Path, stop: Path) -> str:
    """Trains in a process of its own and waits for its end, which it tells.

    Ctrl-C reaches that process once, when the file `stop` appears.
    """
    multiprocessing.set_start_method("forkserver", force=True)  # in joblib's workers it is a word that children miss
    multiprocessing.set_forkserver_preload(HEAVY)
    process = multiprocessing.Process(target=_train, args=(config, folder, stop))
    process.start()
    asked = False
    try:
        while process.exitcode is None:
            process.join(0.2)
            if stop.exists() and not asked:
                asked = True
                with contextlib.suppress(ProcessLookupError):  # it just ended
                    os.kill(process.pid, signal.SIGINT)
    finally:
        process.kill()  # if it is still there
    return f"by {signal.Signals(-process.exitcode).name}" if process.exitcode < 0 else f"code {process.exitcode}"


def _train(config: Config, folder: Path, stop: Path) -> None:
    os.setpgrp()  # the terminal's Ctrl-C is for the sweep's process
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a launcher's worker hands on that it ignores it
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    from minuteloop.training.run import train

    try:
        if stop.exists():
            sys.exit(130)
        train(config, folder)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        with (folder / "log.txt").open("a") as log:
            traceback.print_exc(file=log)
        sys.exit(1)


def end() -> int:
    """Says a sweep's table and leaves it as table.md, where this process launched one.

    Gives the exit code: 0 = every cell finished, 1 = some did not, 130 = Ctrl-C.
    """
    folder = Sweep.folder
    if folder is None or not folder.is_dir():
        return 0
    stopped = (folder / STOP).exists()
    (folder / STOP).unlink(missing_ok=True)
    found = sweep.cells(folder)
    if not found:
        return 1
    text = sweep.table(found, folder)
    (folder / "table.md").write_text(text)
    _say(text)
    return 130 if stopped else int(any(one.failure() for one in found))


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)
