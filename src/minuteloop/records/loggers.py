"""The loggers of a run: always metrics.csv, and what config.logger names."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from minuteloop.records.metrics_csv import MetricsCSV
from minuteloop.records.record import Record
from minuteloop.schema import Config
from minuteloop.validation import flat, spell


class TensorBoard(TensorBoardLogger):
    """TensorBoardLogger that adds the config, beside the last metrics, to the tab HPARAMS."""

    def finish(self, record: Record) -> None:
        """Write the config as hyperparameters; the values of the record's metrics are in the curves already."""
        from torch.utils.tensorboard.summary import hparams

        config = flat(asdict(record.config))
        values = {key: value if isinstance(value, int | float) else spell(value) for key, value in config.items()}
        for summary in hparams(values, record.content["metrics"]):
            self.experiment._get_file_writer().add_summary(summary)
        self.experiment.close()


def start_loggers(config: Config, record: Record, seconds: Callable[[], float], resumed: bool) -> list[Logger]:
    """Return the started loggers.

    `seconds` returns the training seconds so far; `resumed` continues the files of an earlier attempt.
    """
    loggers: list[Logger] = [MetricsCSV(record.folder / "metrics.csv", seconds, resumed)]
    if config.logger.name == "tensorboard":
        loggers.append(TensorBoard(record.folder, name="", version="tensorboard"))
    if config.logger.name == "wandb":
        from minuteloop.records.wandb_logger import start_wandb

        loggers += filter(None, [start_wandb(config, record)])
    return loggers


def resume_loggers(loggers: list[Logger], metrics_csv: Path) -> None:
    """Give the loggers that want it the curves of the earlier attempts; `metrics_csv` ends at the checkpoint.

    Seconds are a column of that file alone.
    """
    with metrics_csv.open(newline="") as file:
        rows = [
            {key: float(text) for key, text in row.items() if text and key != "seconds"} for row in csv.DictReader(file)
        ]
    for logger in loggers:
        if hasattr(logger, "resume"):
            logger.resume(rows)


def finish_loggers(loggers: list[Logger], record: Record) -> None:
    """Give the loggers that want it the finished record."""
    for logger in loggers:
        if hasattr(logger, "finish"):
            logger.finish(record)
