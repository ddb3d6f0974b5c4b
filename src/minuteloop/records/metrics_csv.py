"""metrics.csv: the curves of a run."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from pytorch_lightning.loggers import Logger

from minuteloop.records.record import named_os_errors

COLUMNS = ("step", "seconds", "train/loss", "lr", "val/acc", "val/loss", "test/acc", "test/loss")


class MetricsCSV(Logger):
    """Lightning logger that appends a row to a file at each log, so that a killed run keeps its curves.

    `seconds` returns the training seconds so far, over all attempts. With `resumed` the file is that of an earlier
    attempt, and its columns are kept.
    """

    def __init__(self, path: Path, seconds: Callable[[], float], resumed: bool = False) -> None:
        super().__init__()
        self.path, self.seconds, self.columns = path, seconds, list(COLUMNS)
        if resumed:
            with path.open(newline="") as file:
                self.columns = next(csv.reader(file))
        else:
            with named_os_errors(path), path.open("w", newline="") as file:
                csv.writer(file).writerow(COLUMNS)

    name = version = property(lambda self: None)

    def log_hyperparams(self, *_: object, **__: object) -> None:
        """Do nothing: config.yaml holds them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row; metrics that are not one of COLUMNS go to other loggers only."""
        numbers = {**metrics, "seconds": self.seconds()}
        row = {"step": step} | {key: f"{value:.6g}" for key, value in numbers.items() if key in COLUMNS}
        with named_os_errors(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, extrasaction="ignore").writerow(row)
