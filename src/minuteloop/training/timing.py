"""Training seconds: the steady rate of steps, and a clock that leaves evaluation out and guards the budget."""

from __future__ import annotations

import logging
import time
from collections import deque

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from minuteloop import hardware
from minuteloop.training import processes
from minuteloop.training.stopwatch import Stopwatch

OVERRUN = 2.0  # times the budget, at which a run is stopped
RECENT = 0.05  # fraction of the budget over which the current rate is measured
MARKS = 5  # times in that window
WARMUP_STEPS = 3  # steps that a rate leaves out
COUNTED_STEPS = 3  # steps that a rate counts at least
SYNC_EVERY = 5  # steps; waiting for the device at every step would slow it
FIRST_STEP = 5.0  # seconds that a first step on a CPU may take beyond a later one: imports, memory
ONLY_STEP = 5.0  # times the patience; so slow a step is not repeated

log = logging.getLogger("minuteloop")


class Clock(pl.Callback):
    """Times training and evaluation separately; stops a run that takes more than OVERRUN times its budget.

    A run that will be stopped if it continues at its current rate says so in advance, once.
    """

    def __init__(self, budget: float | None = None, stopwatch: Stopwatch | None = None) -> None:
        """`budget` is in seconds of training, None = unlimited."""
        self.limit = OVERRUN * budget if budget else float("inf")
        self.is_training = False
        self.window = max(RECENT * (budget or 60.0), 1.0)  # seconds
        self.stopwatch, self.overrun, self.warned = stopwatch or Stopwatch(), False, False
        self.marks: deque[tuple[int, float]] = deque([(0, 0.0)], MARKS)  # steps and seconds so far, at recent times
        self.reported = 0.0  # seconds of pauses
        self.load, self.other_cores = None, None  # cores that other processes kept busy during training

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
        """Return the training seconds so far, without evaluation, pauses and waiting for the device."""
        return self.seconds + (self.stopwatch.running() if self.is_training else 0.0)

    def seconds_left(self, step: int, steps: int) -> float:
        """Return the training seconds from `step` to `steps` at the rate of the last seconds."""
        first, seconds = self.marks[0]
        return (self.now() - seconds) / max(step - first, 1) * (steps - step)

    def on_train_start(self, trainer, *_) -> None:
        self.lap("setup")
        self.is_training = True
        self.stopwatch.pauses.watch()
        self.load = hardware.OtherLoad(processes.here.helpers)
        self.marks = deque([(trainer.global_step, self.seconds)], MARKS)
        self.reported = self.stopwatch.paused()

    def on_train_batch_end(self, trainer, *_) -> None:
        now, step, steps = self.now(), trainer.global_step, trainer.max_steps
        if now > self.limit:
            self.overrun = trainer.should_stop = True
        self.stopwatch.pauses.mark()
        if now - self.marks[-1][1] < self.window / (MARKS - 1):
            return
        self.marks.append((step, now))
        self._report_pauses()
        expected = now + self.seconds_left(step, steps)
        if len(self.marks) == MARKS and expected > self.limit and not self.warned:
            self.warned = True
            times = OVERRUN * expected / self.limit
            log.warning(
                f"step {step:,} of {steps:,}: at the rate of the last {now - self.marks[0][1]:.1f} s training takes "
                f"{times:.1f} times its budget; it is stopped at {OVERRUN:g} times, {self.limit:g} s"
            )

    def _report_pauses(self) -> None:
        paused = self.stopwatch.paused()
        if paused > self.reported:
            log.warning(f"the process was paused for {paused - self.reported:.1f} s, which is not training time")
            self.reported = paused

    def on_validation_start(self, trainer, *_) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self.lap("setup" if trainer.sanity_checking else "train")
            self.is_training = False

    def on_validation_end(self, trainer, *_) -> None:
        self.lap("eval")
        self.is_training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking

    def on_train_end(self, *_) -> None:
        self.lap("train")
        self.is_training = False
        self._report_pauses()
        self.stopwatch.pauses.unwatch()
        self.other_cores = self.load.cores()

    def on_exception(self, trainer, *_) -> None:
        if trainer.training:
            self.lap("train")
        self.is_training = False
        self.stopwatch.pauses.unwatch()


class Rate(pl.Callback):
    """Measures the steady rate of steps for `seconds` seconds, then stops the trainer.

    WARMUP_STEPS steps are left out and at least COUNTED_STEPS counted. Where `patience` seconds after the first step
    these are not done, one step of each is enough. Unless early steps are `cold`, because they compile or load
    kernels, every step after the first counts then, and a first step of FIRST_STEP and ONLY_STEP times the patience
    is the only one.
    """

    def __init__(self, seconds: float, patience: float = float("inf"), cold: bool = False) -> None:
        self.limit, self.patience, self.cold = seconds, patience, cold
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
        if self.start is None and not self.cold:
            if self.steps == 1 and now - self.begin > FIRST_STEP + ONLY_STEP * self.patience:
                self.start, self.warmup, is_late = self.begin, 0, True
            elif is_late:
                self.start, self.warmup = self.first_end, 1
        if self.start is None:
            if is_late or self.steps == WARMUP_STEPS:
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
