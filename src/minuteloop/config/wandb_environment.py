"""W&B's environment variables, checked with the rules of the config keys that they stand in for. Imports no wandb."""

import os
from dataclasses import fields

from minuteloop.schema import Logger
from minuteloop.validation import ConfigError, closest

MODES = ("online", "offline", "disabled")
SYNONYMS = ("run", "dryrun", "shared")  # that W&B takes too
KEYS = {
    "WANDB_PROJECT": "project",
    "WANDB_RUN_GROUP": "group",
    "WANDB_JOB_TYPE": "job_type",
    "WANDB_TAGS": "tags",
}


def check_wandb_environment() -> None:
    """Raise ConfigError for a variable whose value W&B would reject after the run has started."""
    mode = os.environ.get("WANDB_MODE")
    if mode is not None and mode not in (*MODES, *SYNONYMS):
        hint = f". Did you mean {match}?" if (match := closest(mode, MODES)) else ""
        raise ConfigError(f"WANDB_MODE={mode}: must be one of {', '.join(MODES)}{hint}")
    rules = {spec.name: spec.metadata for spec in fields(Logger)}
    for variable, key in KEYS.items():
        text = os.environ.get(variable)
        if text is not None and not rules[key]["test"](text.split(",") if key == "tags" else text or None):
            raise ConfigError(f"{variable}={text}: {rules[key]['rule']}")
