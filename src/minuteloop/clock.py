"""Training seconds: measured without evaluation, shown while they pass, and guarded."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from tqdm import tqdm

LATE, OVERRUN = 1.1, 2.0  # times the seconds asked: a warning, and the end


class Clock(pl.Callback):
    """Counts the seconds of training; stops a run that takes more than twice what was asked."""

    def __init__(self, seconds_asked: float | None = None) -> None:
        self.asked = seconds_asked or float("inf")
        self.seconds, self.evaluating, self.overrun = 0.0, 0.0, False
        self._since = None

    def _stop(self) -> float:
        """Ends the running phase; returns its seconds. Waits for the device, so that they are its own."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        now = time.perf_counter()
        passed, self._since = now - (self._since or now), now
        return passed

    def now(self) -> float:
        """Training seconds so far, without waiting for the device."""
        return self.seconds + time.perf_counter() - self._since

    @property
    def is_late(self) -> bool:
        """Whether training took notably longer than asked."""
        return self.seconds > LATE * self.asked

    def on_train_start(self, *_) -> None:
        self._stop()

    def on_train_batch_end(self, trainer, *_) -> None:
        if self.now() > OVERRUN * self.asked:
            self.overrun = trainer.should_stop = True

    def on_validation_start(self, trainer, *_) -> None:
        passed = self._stop()
        if trainer.state.fn == TrainerFn.FITTING:
            self.seconds += passed

    def on_validation_end(self, *_) -> None:
        self.evaluating += self._stop()

    def on_train_end(self, *_) -> None:
        self.seconds += self._stop()


class Interrupt(pl.Callback):
    """Ctrl-C ends training after the current step; the run is then evaluated and saved. A second one stops at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.asked = say, False

    def on_train_start(self, trainer, *_) -> None:
        def stop(signum, frame):
            self.say("interrupted: evaluating and saving; press Ctrl-C again to stop at once")
            self.asked = trainer.should_stop = True
            signal.signal(signal.SIGINT, previous)

        if threading.current_thread() is threading.main_thread():
            previous = signal.signal(signal.SIGINT, stop)


class Progress(pl.Callback):
    """A bar whose remaining time is right, since the number of steps is known; and a line at each evaluation."""

    def __init__(self, steps: int, clock: Clock, say: Callable[[str], None]) -> None:
        self.steps, self.clock, self.say, self.bar = steps, clock, say, None

    def on_train_start(self, *_) -> None:
        self.bar = tqdm(total=self.steps, unit="step", dynamic_ncols=True, leave=False, disable=None, smoothing=0.05)

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
