"""Training seconds: the steady rate of steps, and a clock that leaves evaluation out and guards the budget."""

from __future__ import annotations

import time

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from minuteloop.training.stopwatch import Stopwatch

LATE, OVERRUN = 1.1, 2.0  # times the budget: a warning, and the end
WARMUP_STEPS = 3  # steps that a rate leaves out
COUNTED_STEPS = 3  # steps that a rate counts at least
SYNC_EVERY = 5  # steps; waiting for the device at every step would slow it


class Clock(pl.Callback):
    """Times training and evaluation separately; stops a run that takes more than OVERRUN times its budget."""

    def __init__(self, budget: float | None = None, stopwatch: Stopwatch | None = None) -> None:
        """`budget` is in seconds of training, None = unlimited."""
        self.budget = budget or float("inf")
        self.stopwatch, self.overrun = stopwatch or Stopwatch(), False

    def lap(self, stage: str) -> None:
        """End a stage, after the device has finished its work."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.stopwatch.lap(stage)

    @property
    def seconds(self) -> float:
        """Training seconds up to the last evaluation or checkpoint."""
        return self.stopwatch.seconds["train"]

    def now(self) -> float:
        """Return the training seconds so far, without waiting for the device."""
        return self.seconds + time.perf_counter() - self.stopwatch.last

    @property
    def is_late(self) -> bool:
        """Whether training took notably longer than its budget."""
        return self.seconds > LATE * self.budget

    def on_train_start(self, *_) -> None:
        self.lap("setup")

    def on_train_batch_end(self, trainer, *_) -> None:
        if self.now() > OVERRUN * self.budget:
            self.overrun = trainer.should_stop = True

    def on_validation_start(self, trainer, *_) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self.lap("setup" if trainer.sanity_checking else "train")

    def on_validation_end(self, *_) -> None:
        self.lap("eval")

    def on_train_end(self, *_) -> None:
        self.lap("train")

    def on_exception(self, trainer, *_) -> None:
        if trainer.training:
            self.lap("train")


class Rate(pl.Callback):
    """Measures the steady rate of steps for `seconds` seconds, then stops the trainer.

    WARMUP_STEPS steps are left out and at least COUNTED_STEPS counted. Where `patience` seconds after the
    first step these are not done, one step of each is enough.
    """

    def __init__(self, seconds: float, patience: float = float("inf")) -> None:
        self.limit, self.patience = seconds, patience
        self.steps = self.counted = 0
        self.begin = self.first_end = self.end = 0.0
        self.start: float | None = None  # of the counted steps
        self.warmup, self.is_slow = WARMUP_STEPS, False

    def on_train_start(self, *_) -> None:
        self.begin = time.perf_counter()

    def on_train_batch_end(self, trainer, *_) -> None:
        self.steps += 1
        if torch.cuda.is_initialized():
            if self.start is not None and (self.steps - self.warmup) % SYNC_EVERY:
                return
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.steps == 1:
            self.first_end = now
        is_late = now - self.first_end > self.patience
        if self.start is None:
            if self.steps == WARMUP_STEPS or is_late:
                self.start, self.warmup = now, self.steps
            return
        self.end, self.counted = now, self.steps - self.warmup
        is_measured = self.counted >= COUNTED_STEPS and self.end - self.start >= self.limit
        self.is_slow = is_late and self.counted < COUNTED_STEPS
        trainer.should_stop = is_measured or self.is_slow

    @property
    def first_seconds(self) -> float:
        """Seconds of the steps left out, which include compiling."""
        return self.start - self.begin

    @property
    def steps_per_second(self) -> float:
        """Rate of the counted steps."""
        return self.counted / (self.end - self.start)
