"""Training seconds: measured without evaluation, shown while they pass, and guarded; and a profiler that takes none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.trainer.states import TrainerFn
from tqdm import tqdm

from minuteloop.training.stopwatch import Stopwatch

LATE, OVERRUN = 1.1, 2.0  # times the seconds asked: a warning, and the end


class Clock(pl.Callback):
    """Books the seconds of training and of evaluation apart; stops a run that takes more than twice what was asked."""

    def __init__(self, seconds_asked: float | None = None, stopwatch: Stopwatch | None = None) -> None:
        self.asked = seconds_asked or float("inf")
        self.stopwatch, self.overrun = stopwatch or Stopwatch(), False

    def lap(self, phase: str) -> None:
        """Books a phase that ends. Waits for the device, so that its seconds are its own."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.stopwatch.lap(phase)

    @property
    def seconds(self) -> float:
        """Of training, up to the last evaluation or checkpoint."""
        return self.stopwatch.seconds["train"]

    def now(self) -> float:
        """Training seconds so far, without waiting for the device."""
        return self.seconds + time.perf_counter() - self.stopwatch.last

    @property
    def is_late(self) -> bool:
        """Whether training took notably longer than asked."""
        return self.seconds > LATE * self.asked

    def on_train_start(self, *_) -> None:
        self.lap("setup")

    def on_train_batch_end(self, trainer, *_) -> None:
        if self.now() > OVERRUN * self.asked:
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


class Progress(pl.Callback):
    """A bar whose remaining time is right, since the number of steps is known; and a line at each evaluation."""

    def __init__(self, steps: int, clock: Clock, say: Callable[[str], None]) -> None:
        self.steps, self.clock, self.say, self.bar = steps, clock, say, None

    def on_train_start(self, trainer, *_) -> None:
        self.bar = tqdm(
            total=self.steps,
            initial=trainer.global_step,
            unit="step",
            dynamic_ncols=True,
            leave=False,
            disable=None,
            smoothing=0.05,
        )

    def on_train_batch_end(self, *_) -> None:
        self.bar.update()

    def on_validation_end(self, trainer, *_) -> None:
        step, metrics = trainer.global_step, trainer.callback_metrics
        if trainer.state.fn == TrainerFn.FITTING:
            left = self.clock.seconds / step * (self.steps - step)
            self.bar.clear()
            self.say(
                f"step {step:,} of {self.steps:,}: val/acc {100 * metrics['val/acc']:.2f} %, "
                f"val/loss {metrics['val/loss']:.3f}, {left:.0f} s of training left"
            )

    def on_train_end(self, *_) -> None:
        self.bar.close()


class Rate(pl.Callback):
    """Measures the steady rate for `seconds` seconds, at least WARMUP + 3 steps, then stops the trainer."""

    WARMUP = 3  # steps that are not counted

    def __init__(self, seconds: float) -> None:
        self.limit, self.steps, self.measured = seconds, 0, 0
        self.begin = self.start = self.end = 0.0

    def on_train_start(self, *_) -> None:
        self.begin = time.perf_counter()

    def on_train_batch_end(self, trainer, *_) -> None:
        self.steps += 1
        on_device = torch.cuda.is_initialized()
        if self.steps > self.WARMUP and on_device and (self.steps - self.WARMUP) % 5:
            return  # waiting for the device at every step would slow it
        if on_device:
            torch.cuda.synchronize()
        self.end, self.measured = time.perf_counter(), self.steps - self.WARMUP
        if self.steps == self.WARMUP:
            self.start = self.end
        trainer.should_stop = self.measured >= 3 and self.end - self.start >= self.limit

    @property
    def first_seconds(self) -> float:
        """Of the steps that are not counted, in which a compiled net is compiled."""
        return self.start - self.begin

    @property
    def steps_per_second(self) -> float:
        """Over the counted steps."""
        return self.measured / (self.end - self.start)


class NoProfiler(PassThroughProfiler):
    """Measures nothing. Lightning's own does so too, but through some 40 generators a step, 0.15 ms on a CPU."""

    NOTHING = contextlib.nullcontext()

    def profile(self, action_name: str) -> contextlib.AbstractContextManager:
        """A context in which nothing happens."""
        return self.NOTHING
