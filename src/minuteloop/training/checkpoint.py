"""last.ckpt: all that an unfinished run needs to go on as if it had never stopped."""

from __future__ import annotations

import io
import os
import pickle
import signal
import time
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from minuteloop.records.record import Record
from minuteloop.training.signals import Interrupt, Stopped
from minuteloop.training.timing import Clock
from minuteloop.validation import ConfigError

EVERY = 3.0  # seconds between two checkpoints, at least
SHARE = 0.02  # of a run's time, at most, goes into them


class Checkpoint(pl.Callback):
    """Saves Lightning's checkpoint between two steps, now and then and when a signal came.

    Beside what Lightning collects (net, optimizer, schedule, loops, each callback's state_dict) it holds the seconds so
    far and how long metrics.csv was. It has to stand before callbacks that change something as a step begins. One that
    cannot be written is told once, and training goes on.
    """

    def __init__(self, record: Record, clock: Clock, interrupt: Interrupt, say: Callable[[str], None]) -> None:
        self.record, self.clock, self.interrupt, self.say = record, clock, interrupt, say
        self.metrics, self.resumed, self.warned, self.due = record.folder / "metrics.csv", False, False, 0.0

    def on_train_start(self, trainer, *_) -> None:
        self.interrupt.hold()
        self.due = time.perf_counter() + EVERY
        if self.resumed:
            self.say(f"attempt {self.record.content['attempts']}: going on after step {trainer.global_step:,}")

    def on_train_batch_start(self, trainer, *_) -> None:
        if self.resumed:
            # Lightning counts a step too many where it leaves out a validation that was made before the checkpoint
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
            self.resumed = False
        signum = self.interrupt.signum
        if trainer.global_step and (signum or time.perf_counter() >= self.due) and not trainer.should_stop:
            self.save(trainer)
        if signum == signal.SIGTERM:  # the machine is wanted back
            raise Stopped(signum)
        if signum and not trainer.should_stop:
            self.say("interrupted: evaluating and saving; press Ctrl-C again to stop at once")
            trainer.should_stop = True

    def on_train_end(self, *_) -> None:
        self.interrupt.release()

    def save(self, trainer) -> None:
        """Writes last.ckpt, off the training clock."""
        self.clock.lap("train")
        begin = time.perf_counter()
        try:
            trainer.save_checkpoint(self.record.checkpoint, weights_only=False)
        except OSError as error:
            if not self.warned:
                self.say(f"warning: {error}; training goes on without a new checkpoint")
            self.warned = True
        now = time.perf_counter()
        self.due = now + max(EVERY, (now - begin) / SHARE)
        self.clock.lap("log")

    def state_dict(self) -> dict:
        """The seconds so far, and the length in bytes of a metrics.csv that is on disk."""
        with self.metrics.open("rb") as file:
            os.fsync(file.fileno())
            return {"seconds": dict(self.clock.stopwatch.seconds), "metrics": os.fstat(file.fileno()).st_size}

    def load_state_dict(self, state: dict) -> None:
        self.resumed = True
        self.clock.stopwatch.add(state["seconds"])
        os.truncate(self.metrics, state["metrics"])

    def on_save_checkpoint(self, trainer, module, checkpoint: dict) -> None:
        # Lightning has counted the batch that is about to begin, and whether it ends the epoch
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        progress["is_last_batch"] = False
        for count in (progress["total"], progress["current"]):
            count["ready"] -= 1


class RecordIO(TorchCheckpointIO):
    """Lightning's checkpoints by way of the record: whole or not at all, and nothing but tensors and plain values."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def save_checkpoint(self, checkpoint: dict, path, storage_options=None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        self.record.write(self.record.checkpoint.name, buffer.getbuffer())

    def load_checkpoint(self, path, map_location="cpu", weights_only=True) -> dict:
        """Raises ConfigError for a file that is no checkpoint."""
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(f"{path}: no checkpoint ({told}); delete it to start the run over") from error
