"""Where curves go: always metrics.csv in the run's folder, and W&B beside it."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from pytorch_lightning.loggers import Logger, WandbLogger

from minuteloop.record import naming
from minuteloop.schema import Config

INIT_TIMEOUT = 10  # seconds
COLUMNS = ("step", "train/loss", "lr", "val/acc", "val/loss", "test/acc", "test/loss")


class MetricsFile(Logger):
    """Appends a row to metrics.csv at each log, so that a killed run keeps its curves.

    `resumed`: the file is that of an earlier attempt.
    """

    def __init__(self, path: Path, resumed: bool = False) -> None:
        super().__init__()
        self.path = path
        if not resumed:
            with naming(path), path.open("w", newline="") as file:
                csv.writer(file).writerow(COLUMNS)

    name = version = property(lambda self: None)

    def log_hyperparams(self, *_: object, **__: object) -> None:
        """config.yaml holds them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One row; a metric that is not one of COLUMNS goes only to other loggers."""
        row = {"step": step} | {key: f"{value:.6g}" for key, value in metrics.items() if key in COLUMNS}
        with naming(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)


class Wandb(WandbLogger):
    """A W&B run that cannot cost a training run: its first error is told, and from then on it is left alone."""

    def __init__(self, run, say: Callable[[str], None]) -> None:
        super().__init__(experiment=run)
        self.run, self.say, self.dead = run, say, False

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """As WandbLogger."""
        self._safely(lambda: super(Wandb, self).log_metrics(metrics, step))

    def finish(self, record: dict) -> None:
        """Puts the record's figures into the summary and ends the run, so that the next one is a run of its own."""
        import wandb

        summary = {
            f"{part}/{key}": value for part in ("seconds", "cost", "plan") for key, value in record[part].items()
        }
        self._safely(lambda: self.run.summary.update(record["metrics"] | summary | {"status": record["status"]}))
        folder = Path(self.run.dir).parent.resolve()
        self.say(f"W&B: wandb sync {folder}" if self.run.offline else f"W&B: {self.run.url}")
        self.dead = False
        self._safely(lambda: wandb.finish(exit_code=0 if record["error"] is None else 1))

    def _safely(self, act: Callable[[], None]) -> None:
        if self.dead:
            return
        try:
            act()
        except Exception as error:
            self.dead = True
            self.say(f"warning: W&B failed and is left alone: {_first_line(error)}")


def start_wandb(config: Config, folder: Path, say: Callable[[str], None]) -> Wandb | None:
    """W&B online when a key is present, else offline at once; None, with a warning, when it cannot start."""
    try:
        import wandb

        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    except Exception as error:
        say(f"warning: W&B cannot be used: {_first_line(error)}")
        return None
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
            return Wandb(run, say)
        except Exception as error:
            say(f"warning: W&B did not start {attempt}: {_first_line(error)}")
    return None


def _has_key() -> bool:
    import wandb

    return bool(wandb.setup().settings.api_key) or wandb.login(prompt=False)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
