"""The command line: Hydra's main around one run, or around the cells of a multirun."""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from minuteloop.config.compose import CONF, HYDRA_1_4, STARTED, checked, without_hydra
from minuteloop.config.errors import in_one_line, is_mistake, one_line
from minuteloop.study import multirun
from minuteloop.training.resume import folder_for

# Hydra 1.4 deprecates version_base and wants to be told what a config may call
CALLBACKS = ["minuteloop.cli.CheckConfig", "minuteloop.study.multirun.Sweep"]
MAIN = {"execution_whitelist": CALLBACKS} if HYDRA_1_4 else {"version_base": "1.3"}


def main() -> None:
    """Compose, check, train. A user's mistake ends it with one line and exit code 1, a multirun with its table."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing
    try:
        hydra.main(**MAIN, config_path=str(CONF), config_name="config")(_job)()
    except KeyboardInterrupt:
        multirun.end()
        sys.exit(130)
    except Exception as error:
        told = _told(error)
        multirun.end()
        sys.exit(f"error: {told}")
    sys.exit(multirun.end())


def _told(error: Exception) -> str:
    """The one line of what a user can set right, or of a launcher that gave up; raises what is neither."""
    if is_mistake(error):
        return one_line(error, CONF)
    if multirun.Sweep.folder is None:
        raise error
    traceback.print_exception(error)
    return f"the launcher gave up: {type(error).__name__}: {' '.join(str(error).split())}"


def _job(cfg: DictConfig) -> float | None:
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        return multirun.cell(cfg, settings)
    from minuteloop.training.run import train

    with in_one_line(CONF):  # Hydra would say the overrides too
        record = train(checked(cfg, settings), Path(settings.runtime.output_dir), STARTED)
    if record["status"] == "interrupted":
        sys.exit(130)  # as a shell reports SIGINT
    return record["metrics"].get("val/acc")


class RefuseBadConfig(Callback):
    """Refuses a config before Hydra makes the run's folder, and leads a run that is resumed to its own."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with in_one_line(CONF):  # Hydra turns any exception of a callback but SystemExit into a warning
            folder = folder_for(checked(without_hydra(config), config.hydra), Path(config.hydra.run.dir))
        with read_write(config.hydra.run):
            config.hydra.run.dir = str(folder)
