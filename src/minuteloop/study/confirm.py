"""Train an arm that was chosen, and its baseline, again with fresh seeds: what was chosen looks better than it is."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

from minuteloop.study.design import Study
from minuteloop.study.earlier_records import RUNS
from minuteloop.validation import ConfigError

TRAIN = "from minuteloop.cli import train; train(program='minuteloop train')"


def confirm(study: Study, arm: str, typed: list[str], budget: str, seeds: list[int], config_dir: str) -> Path:
    """Run the study's `arm` and its baseline with `seeds`, and return the folder of that sweep.

    `typed` are overrides beside the arm's. What the runs print goes to stderr.

    Raises:
        ConfigError: the sweep did not run to its end.
    """
    folder = Path(RUNS) / f"{datetime.now():%Y%m%d-%H%M%S}-confirm-{study.name}"
    options = ["-cn", study.name, *(["-cd", config_dir] if config_dir else [])]
    overrides = [
        f"study.only=['{arm}']",
        f"study.seeds=[{','.join(map(str, seeds))}]",
        f"study.budgets=[{budget}]",
        f"hydra.sweep.dir={folder}",
    ]
    command = [sys.executable, "-c", TRAIN, *options, *typed, *overrides]
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        raise ConfigError(f"--confirm: its sweep did not run to its end; see {folder}")
    return folder
