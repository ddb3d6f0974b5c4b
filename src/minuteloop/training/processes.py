"""One run on several devices: helper processes train beside the run's own, each on its slice of every batch (DDP).

The run's process decides: when the rate is measured, when to save and when to stop. The helpers follow it step by step.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from minuteloop.schema import Config
from minuteloop.training.plan import Plan
from minuteloop.validation import ConfigError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
TIMEOUT = datetime.timedelta(minutes=2)  # after which a process that waits for another one fails

Value = TypeVar("Value")
log = logging.getLogger("minuteloop")


@dataclass
class Place:
    """This process among those of the run."""

    rank: int = 0
    port: int = 0  # where the first one listens; 0 = it is alone
    group: Any = None  # torch's, of CPU tensors, for decisions
    helpers: tuple[int, ...] = ()  # process numbers of those that it has started


here = Place()


class Environment(LightningEnvironment):
    """Lightning's view of the run's processes: they already exist, on this host."""

    creates_processes_externally = True
    main_address, main_port = "127.0.0.1", property(lambda self: here.port)

    def local_rank(self) -> int:
        return here.rank


def strategy_of(config: Config) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that make the run's processes train together, or one alone."""
    if config.devices == 1:
        return {"devices": 1}
    backend = "nccl" if config.device == "cuda" else "gloo"
    freezes = "freeze" in config.recipe.callbacks  # parameters have no gradient then, in the middle of a run
    ddp = DDPStrategy(process_group_backend=backend, timeout=TIMEOUT, find_unused_parameters=freezes)
    return {"devices": config.devices, "strategy": ddp}


def from_first(value: Value) -> Value:
    """Return what the run's own process passes; all processes must call this at the same point."""
    if not here.port:
        return value
    if here.group is None:
        here.group = dist.new_group(backend="gloo")
    values = [value]
    dist.broadcast_object_list(values, 0, group=here.group)
    return values[0]


class StopTogether(pl.Callback):
    """Stops all processes after the step in which the first one stops."""

    def on_train_batch_end(self, trainer, *_) -> None:
        trainer.should_stop = from_first(trainer.should_stop)


class SaveTogether(pl.Callback):
    """Takes part in each checkpoint that the first process saves."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint, self.resumed = checkpoint, checkpoint.exists()

    def on_train_batch_start(self, trainer, *_) -> None:
        if self.resumed:  # as in checkpoint.Checkpoint
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
            self.resumed = False
        if from_first(False):
            trainer.save_checkpoint(self.checkpoint, weights_only=False)


@contextlib.contextmanager
def helpers(config: Config, plan: Plan | None, checkpoint: Path) -> Iterator[None]:
    """Start the other processes of a run, which help until the end of the context; none with devices=1.

    With a `plan` nothing is measured. Raises ConfigError where there are fewer devices.
    """
    if config.devices == 1:
        yield
        return
    if config.device == "cuda" and config.devices > torch.cuda.device_count():
        raise ConfigError(f"devices={config.devices}: torch finds {torch.cuda.device_count()} CUDA devices")
    here.port = _free_port()
    context = multiprocessing.get_context("spawn")
    arguments = (config, asdict(plan) if plan else None, checkpoint, here.port)
    processes = [context.Process(target=_help, args=(rank, *arguments)) for rank in range(1, config.devices)]
    try:
        for process in processes:
            process.start()
        here.helpers = tuple(process.pid for process in processes)
        yield
    except RuntimeError as error:  # of a torch that waits for a process that is gone
        died = [process for process in processes if process.exitcode is not None]
        if not died:
            raise
        rank = 1 + processes.index(died[0])
        words = f"devices={config.devices}: process {rank} ended with exit code {died[0].exitcode}, see above"
        raise RuntimeError(words) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        here.port, here.group, here.helpers = 0, None, ()
        for process in processes:
            process.kill()
            process.join()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _help(rank: int, config: Config, plan: dict | None, checkpoint: Path, port: int) -> None:
    """Do in a helper what run.train does in the run's own process."""
    from minuteloop import hardware
    from minuteloop.training.build import build
    from minuteloop.training.calibrate import calibrate, compile_only
    from minuteloop.training.stopwatch import Stopwatch
    from minuteloop.training.trainer import fit_trainer, quiet_lightning

    here.rank, here.port = rank, port
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the first process stops all
    threading.Thread(target=_end_with_first, daemon=True).start()
    log.setLevel(logging.CRITICAL)
    hardware.keep_freed_memory()
    quiet_lightning()
    torch.set_num_threads(config.threads)
    parts = build(config)
    stopwatch = Stopwatch()
    plan = compile_only(parts, Plan(**plan), stopwatch) if plan else calibrate(parts, stopwatch)
    module = parts.classifier(plan)
    callbacks = [SaveTogether(checkpoint), StopTogether()]
    trainer = fit_trainer(config, plan, callbacks=callbacks, logger=False)
    with contextlib.suppress(FloatingPointError):  # raised in all processes
        trainer.fit(module, parts.data, ckpt_path=checkpoint if checkpoint.exists() else None)
        while task := from_first(None):
            getattr(trainer, task)(module, parts.data, verbose=False)


def _end_with_first() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
