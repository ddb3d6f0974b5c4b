"""Where curves go: always metrics.csv in the run's folder, and W&B beside it."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from pytorch_lightning.loggers import Logger, WandbLogger

from minuteloop.schema import Config

INIT_TIMEOUT = 10  # seconds
COLUMNS = ("step", "train/loss", "lr", "val/acc", "val/loss", "test/acc", "test/loss")


class MetricsFile(Logger):
    """Appends a row to metrics.csv at each log, so that a killed run keeps its curves."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        with path.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)

    name = version = property(lambda self: None)

    def log_hyperparams(self, *_: object, **__: object) -> None:
        """config.yaml holds them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One row; a metric that is not one of COLUMNS goes only to other loggers."""
        row = {"step": step} | {key: f"{value:.6g}" for key, value in metrics.items() if key in COLUMNS}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)


def start_wandb(config: Config, folder: Path, say: Callable[[str], None]) -> WandbLogger | None:
    """W&B online when a key is present, else offline at once; None, with a warning, when it cannot start."""
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    for attempt in dict.fromkeys([mode, "offline"]):
        try:
            run = wandb.init(
                mode=attempt,
                dir=folder.resolve(),
                project=config.logger.project,
                group=config.logger.group,
                name=f"{config.name}-{folder.name}",
                tags=[*config.logger.tags, config.arch.name, config.recipe.name, config.data.name],
                config=dataclasses.asdict(config),
                settings=wandb.Settings(init_timeout=INIT_TIMEOUT, silent=True, console="off"),
            )
            return WandbLogger(experiment=run)
        except Exception as error:
            say(f"warning: W&B did not start {attempt}: {str(error).splitlines()[0]}")
    return None


def _has_key() -> bool:
    import wandb

    return bool(wandb.setup().settings.api_key) or wandb.login(prompt=False)


def finish_wandb(logger: WandbLogger, record: dict, say: Callable[[str], None]) -> None:
    """Puts the record's figures into the summary and ends the run, so that the next one is a run of its own."""
    import wandb

    run = logger.experiment
    for part in ("metrics", "seconds", "cost", "plan"):
        run.summary.update({key if part == "metrics" else f"{part}/{key}": v for key, v in record[part].items()})
    run.summary["status"] = record["status"]
    folder, offline = Path(run.dir).parent.resolve(), run.offline
    wandb.finish()
    say(f"W&B: wandb sync {folder}" if offline else f"W&B: {run.url}")
