"""last.ckpt: all that an unfinished run needs to continue bit for bit."""

from __future__ import annotations

import io
import logging
import os
import signal
import time

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from minuteloop.records.loggers import resume_loggers
from minuteloop.records.record import Record
from minuteloop.training.checksum import append_checksum, read_checked
from minuteloop.training.processes import from_first
from minuteloop.training.signals import Interrupt, Stopped
from minuteloop.training.timing import Clock

EVERY = 3.0  # seconds between two checkpoints, at least
FRACTION = 0.02  # of a run's time that checkpoints take, at most

log = logging.getLogger("minuteloop")


class Checkpoint(pl.Callback):
    """Saves Lightning's checkpoint between two steps, every few seconds and after a signal.

    It adds to what Lightning collects (net, optimizer, schedule, loops, each callback's state_dict) the seconds so far
    and the length of metrics.csv. It must be listed before callbacks that change something as a step begins.
    A checkpoint that cannot be written is a warning, once, and training continues.
    """

    def __init__(self, record: Record, clock: Clock, interrupt: Interrupt) -> None:
        self.record, self.clock, self.interrupt = record, clock, interrupt
        self.metrics, self.resumed, self.warned, self.due = record.folder / "metrics.csv", False, False, 0.0

    def on_train_start(self, trainer, *_) -> None:
        self.interrupt.hold()
        self.due = time.perf_counter() + EVERY
        if self.resumed:
            resume_loggers(trainer.loggers, self.metrics)
            log.info(f"attempt {self.record.content['attempts']}: continuing after step {trainer.global_step:,}")

    def on_train_batch_start(self, trainer, *_) -> None:
        if self.resumed:
            # Lightning counts a step too many where it skips a validation that was made before the checkpoint
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
            self.resumed = False
        signum = self.interrupt.signum
        is_due = trainer.global_step and (signum or time.perf_counter() >= self.due) and not trainer.should_stop
        if from_first(bool(is_due)):
            self.save(trainer)
        if signum and signum != signal.SIGINT:  # the machine is needed for something else
            raise Stopped(signum)
        if signum and not trainer.should_stop:
            log.info("interrupted: evaluating and saving; press Ctrl-C again to stop immediately")
            trainer.should_stop = True

    def on_train_end(self, *_) -> None:
        self.interrupt.release()

    def save(self, trainer) -> None:
        """Write last.ckpt; its time is not training time."""
        self.clock.lap("train")
        begin = time.perf_counter()
        try:
            trainer.save_checkpoint(self.record.checkpoint, weights_only=False)
        except OSError as error:
            if not self.warned:
                log.warning(f"{error}; training continues without a new checkpoint")
            self.warned = True
        now = time.perf_counter()
        self.due = now + max(EVERY, (now - begin) / FRACTION)
        self.clock.lap("log")

    def state_dict(self) -> dict:
        """Return the seconds so far, and the length in bytes of metrics.csv once it is on disk."""
        with self.metrics.open("rb") as file:
            os.fsync(file.fileno())
            return {"seconds": dict(self.clock.stopwatch.seconds), "metrics": os.fstat(file.fileno()).st_size}

    def load_state_dict(self, state: dict) -> None:
        self.resumed = True
        self.clock.stopwatch.add(state["seconds"])
        os.truncate(self.metrics, state["metrics"])

    def on_save_checkpoint(self, trainer, module, checkpoint: dict) -> None:
        # Lightning has already counted the batch that is about to begin, and whether it ends the epoch
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        progress["is_last_batch"] = False
        for count in (progress["total"], progress["current"]):
            count["ready"] -= 1


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints through the record, atomically, and reads tensors and plain values only."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def save_checkpoint(self, checkpoint: dict, path, storage_options=None) -> None:
        archive = io.BytesIO()
        torch.save(checkpoint, archive)
        append_checksum(archive)
        self.record.write(self.record.checkpoint.name, archive.getbuffer())

    def load_checkpoint(self, path, map_location="cpu", weights_only=True) -> dict:
        """Return the checkpoint. Raises ConfigError for a damaged one."""
        return torch.load(io.BytesIO(read_checked(path)), map_location="cpu", weights_only=True)
