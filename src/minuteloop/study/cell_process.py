"""Train a cell in its own process, which keeps its threads, compiled code, peak memory and death to itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from minuteloop.records.machine import machine_of
from minuteloop.records.terminal import drop_lost_output
from minuteloop.schema import Config
from minuteloop.study.device_slots import take_device
from minuteloop.validation import ConfigError

# imported once, in the process that cells are forked from; torch starts no thread and no device by being imported.
# Not minuteloop: that process may find another copy of it, since it does not know this one's sys.path (Python 3.11)
PRELOADED = ["torch", "pytorch_lightning", "torchmetrics.classification"]

END_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # Slurm sends them to all processes of a task
SECONDS_TO_SAVE = 20  # Slurm sends SIGKILL 30 s after SIGTERM

_machines: dict[tuple, list[dict]] = {}


def train_in_process(
    config: Config,
    folder: Path,
    sweep: Path,
    stop: Path,
    overrides: list[str],
    is_enough: Callable[[Path], bool] | None = None,
) -> str:
    """Train a cell of a sweep in another process, and return how that ended: by which signal, with which exit code.

    Its record keeps `overrides`. When the file `stop` appears, or `is_enough(folder)`, which is asked five times a
    second, the process is sent SIGINT, once. If this process ends first, the cell saves its checkpoint.
    """
    _machines.clear()
    process = _start(_train, config, folder, sweep, stop, overrides)
    interrupted = False
    try:
        while process.exitcode is None:
            process.join(0.2)
            if not interrupted and (stop.exists() or (is_enough and is_enough(folder))):
                interrupted = True
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process.pid, signal.SIGINT)
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:  # of a process that still lives: its launcher ends this one, at a time limit
        process.terminate()
        process.join(SECONDS_TO_SAVE)
        process.kill()
    code = process.exitcode
    if code - 128 in END_SIGNALS and "SLURM_JOB_ID" in os.environ:
        sys.exit(code)  # Slurm ends this task too, and may start it again
    return f"by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def machines_in_process(config: Config) -> list[dict]:
    """Return the machines (see records.machine) that a run of `config` may be of here: now, and with no core busy.

    Another process asks torch, since a process that uses a device keeps memory of it. The list is empty where
    that fails, as for device=cuda without a device; training the cell then raises the reason. The answer holds until
    the next cell trains.
    """
    asked = (config.device, config.devices, config.precision, config.threads)
    if asked not in _machines:
        _machines[asked] = _machines_now(config)
    return _machines[asked]


def _machines_now(config: Config) -> list[dict]:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = _start(_describe_machines, config, sender)
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return []
    finally:
        process.join()


def _start(target: Callable, *arguments: Any) -> multiprocessing.Process:
    multiprocessing.set_start_method("forkserver", force=True)  # joblib's workers have a method that children lack
    multiprocessing.set_forkserver_preload(PRELOADED)
    process = multiprocessing.Process(target=_unblock_signals, args=(target, *arguments))
    multiprocessing.resource_tracker.ensure_running()  # else process.start() does, and unblocks SIGTERM
    before = signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)  # also in the process that cells are forked from
    process.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _unblock_signals(target: Callable, *arguments: Any) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, END_SIGNALS)
    target(*arguments)


def _describe_machines(config: Config, sender: multiprocessing.connection.Connection) -> None:
    from minuteloop import hardware
    from minuteloop.records.environment import describe_host, versions

    try:
        resolved = hardware.resolve_auto(config)
    except ConfigError:
        sys.exit(1)
    most = hardware.threads_of_each(hardware.default_threads(), config.devices)
    threads = {resolved.threads, most} if config.threads == "auto" else {resolved.threads}
    here = {"host": describe_host(resolved.device), "versions": versions()}
    sender.send([machine_of(here | {"config": asdict(replace(resolved, threads=count))}) for count in sorted(threads)])


def _train(config: Config, folder: Path, sweep: Path, stop: Path, overrides: list[str]) -> None:
    drop_lost_output()
    os.setpgrp()  # the terminal's Ctrl-C is for the sweep's process
    interrupts: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))  # in an import Ctrl-C may raise any error
    _end_with_parent()
    from minuteloop.training.run import train

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if interrupts or stop.exists():
            sys.exit(130)
        if config.device != "cpu" and config.devices == 1:
            take_device(sweep)
        train(config, folder, sweep=sweep, cell=folder.name, overrides=overrides)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        with (folder / "log.txt").open("a") as log:
            traceback.print_exc(file=log)
        sys.exit(1)


def _end_with_parent() -> None:
    """Send this process SIGTERM when its parent ends."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
