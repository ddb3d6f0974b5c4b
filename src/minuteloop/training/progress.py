"""The progress bar and the log line of each evaluation."""

from __future__ import annotations

import logging
import sys
import time

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from tqdm import tqdm

from minuteloop.training.timing import Clock

REFRESH = 0.5  # seconds

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
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt} of {total_fmt} steps{postfix}",
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
        seconds, step = self.clock.now(), trainer.global_step
        parts = [
            f"{self._seconds_left(seconds, step):.0f} s left",
            f"{self._images_per_second(seconds, step):,.0f} img/s",
        ]
        if "train/loss" in trainer.callback_metrics:
            parts.append(f"loss {trainer.callback_metrics['train/loss']:.3f}")
        return ", ".join([*parts, self.accuracy] if self.accuracy else parts)

    def _seconds_left(self, seconds: float, step: int) -> float:
        return seconds / max(step, 1) * (self.steps - step)

    def _images_per_second(self, seconds: float, step: int) -> float:
        return step * self.batch_size / max(seconds, 1e-9)

    def on_validation_end(self, trainer, *_) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        step, metrics, seconds = trainer.global_step, trainer.callback_metrics, self.clock.seconds
        self.accuracy = f"val/acc {100 * metrics['val/acc']:.2f} %"
        log.info(
            f"step {step:,} of {self.steps:,}: {self.accuracy}, val/loss {metrics['val/loss']:.3f}, "
            f"{self._images_per_second(seconds, step):,.0f} images/s, "
            f"{self._seconds_left(seconds, step):.0f} s of training left"
        )

    def on_train_end(self, *_) -> None:
        self.bar.close()

    def on_exception(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()
