"""A Lightning Trainer without what a one-minute run has no time for."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from minuteloop.schema import Config
from minuteloop.training import processes
from minuteloop.training.plan import LOG_EVERY, Plan
from minuteloop.validation import ConfigError, did_you_mean


def check_trainer_arguments(arguments: dict[str, Any]) -> None:
    """Raise ConfigError for a name that is not an argument of Lightning's Trainer."""
    allowed = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name != "self"]
    for name, value in arguments.items():
        if name not in allowed:
            message = f"trainer.{name}={value}: must be an argument of Lightning's Trainer"
            raise ConfigError(f"{message}{did_you_mean(name, allowed)}")


class NoProfiler(PassThroughProfiler):
    """Measures nothing, as Lightning's default does, which takes some 40 generators and 0.15 ms of a step."""

    NOTHING = contextlib.nullcontext()

    def profile(self, action_name: str) -> contextlib.AbstractContextManager:
        """Return a context in which nothing happens."""
        return self.NOTHING


def make_trainer(config: Config, log_every: int = LOG_EVERY, plugins=(), **kwargs) -> pl.Trainer:
    """Return the trainer of a run that logs every `log_every` steps, with the user's `trainer.*`.

    A run has the processes of its `devices`, whatever RANK, LOCAL_RANK or Slurm's variables make of it.
    """
    rank_zero_only.rank = (
        processes.here.rank
    )  # Lightning takes it from the environment, and loggers of other ranks log nothing
    if config.trainer.get("profiler"):  # which reports through a logger that quiet_lightning silences
        _log_profiles()
    return pl.Trainer(
        accelerator={"cuda": "gpu", "cpu": "cpu"}[config.device],
        precision={"bf16": "bf16-mixed", "fp32": "32-true"}[config.precision],
        gradient_clip_val=config.recipe.clip_grad,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[processes.Environment(), *plugins],
        **processes.strategy_of(config),
        **kwargs,
        **{"profiler": NoProfiler(), "log_every_n_steps": log_every, **config.trainer},
    )


def fit_trainer(config: Config, plan: Plan, **kwargs) -> pl.Trainer:
    """Make the trainer that trains a run to its end and evaluates it."""
    return make_trainer(
        config,
        plan.log_every,
        max_steps=plan.steps,
        val_check_interval=plan.steps // config.evaluations + 1,  # the last one comes after training
        limit_val_batches=1.0 if config.data.holdout else 0,
        **kwargs,
    )


def _log_profiles() -> None:
    """Send what Lightning's profilers report to the run's own log."""
    profilers, own = logging.getLogger("pytorch_lightning.profilers"), logging.getLogger("minuteloop")
    profilers.setLevel(logging.INFO)
    profilers.propagate = False
    for handler in own.handlers:
        profilers.addHandler(handler)


def quiet_lightning() -> None:
    """Silence what Lightning logs about every trainer; the run has its own log."""
    for package in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")
    warnings.filterwarnings(
        "ignore",
        message=".*(LeafSpec|The `srun` command|number of training batches|resuming from a checkpoint|Grad strides).*",
    )
