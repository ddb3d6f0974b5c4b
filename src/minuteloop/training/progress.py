"""The progress bar and the log line of each evaluation."""

from __future__ import annotations

import logging
import sys
import time

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from tqdm import tqdm

from minuteloop.training.timing import OVERRUN, Clock

REFRESH = 0.5  # seconds
ROOM = "  \x1b[2D"  # two columns after the bar, for the ^C that a terminal prints at its cursor

log = logging.getLogger("minuteloop")


class Progress(pl.Callback):
    """A bar with the run's name, the training time left, loss, accuracy and images/s; a log line at each evaluation.

    The time left is right, since the number of steps is known; it leaves evaluation out, as the budget does.
    """

    def __init__(self, name: str, steps: int, batch_size: int, clock: Clock) -> None:
        self.name, self.steps, self.batch_size, self.clock = name, steps, batch_size, clock
        self.bar, self.due, self.accuracy = None, 0.0, ""

    def on_train_start(self, trainer, *_) -> None:
        self.bar = tqdm(
            desc=self.name,
            total=self.steps,
            initial=trainer.global_step,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt} of {total_fmt} steps{postfix}" + ROOM,
            dynamic_ncols=True,
            leave=False,
            disable=True if sys.stderr is None else None,  # None: shown on a terminal only
        )

    def on_train_batch_end(self, trainer, *_) -> None:
        now = time.perf_counter()
        if not self.bar.disable and now >= self.due:
            self.due = now + REFRESH
            self.bar.set_postfix_str(self._status(trainer), refresh=False)
        self.bar.update()

    def _status(self, trainer) -> str:
        """Return the text after the bar; the loss is the one last logged, so that nothing waits for the device."""
        step = trainer.global_step
        parts = [self._time_left(step), f"{self._images_per_second(self.clock.now(), step):,.0f} img/s"]
        if "train/loss" in trainer.callback_metrics:
            parts.append(f"loss {trainer.callback_metrics['train/loss']:.3f}")
        return ", ".join([*parts, self.accuracy] if self.accuracy else parts)

    def _time_left(self, step: int) -> str:
        left, until_stop = self.clock.seconds_left(step, self.steps), max(self.clock.limit - self.clock.now(), 0.0)
        if left > until_stop:
            return f"{until_stop:.0f} s left (stopped at {OVERRUN:g} times its budget)"
        return f"{left:.0f} s left"

    def _images_per_second(self, seconds: float, step: int) -> float:
        return step * self.batch_size / max(seconds, 1e-9)

    def on_validation_end(self, trainer, *_) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        step, metrics, seconds = trainer.global_step, trainer.callback_metrics, self.clock.seconds
        self.accuracy = f"val/acc {100 * metrics['val/acc']:.2f} %"
        log.info(
            f"step {step:,} of {self.steps:,}: {self.accuracy}, val/loss {metrics['val/loss']:.3f}, "
            f"{self._images_per_second(seconds, step):,.0f} images/s, {self._time_left(step)}"
        )

    def on_train_end(self, *_) -> None:
        self.bar.close()

    def on_exception(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()
