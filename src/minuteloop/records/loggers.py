"""The loggers of a run: always metrics.csv, and what config.logger names."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from minuteloop.records.metrics_csv import MetricsCSV
from minuteloop.records.record import Record
from minuteloop.schema import Config


def start_loggers(config: Config, folder: Path, resumed: bool) -> list[Logger]:
    """Return the started loggers; `resumed` continues the files of an earlier attempt."""
    loggers: list[Logger] = [MetricsCSV(folder / "metrics.csv", resumed)]
    if config.logger.name == "tensorboard":
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    if config.logger.name == "wandb":
        from minuteloop.records.wandb_logger import start_wandb

        loggers += filter(None, [start_wandb(config, folder)])
    return loggers


def finish_loggers(loggers: list[Logger], record: Record) -> None:
    """Give the loggers that want it the finished record."""
    for logger in loggers:
        if hasattr(logger, "finish"):
            logger.finish(record)
