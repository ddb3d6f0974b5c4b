"""Compose a config with Hydra and check what was composed. The command line and Python both come through here."""

import contextlib
import dataclasses
import importlib.util
import inspect
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from minuteloop.config.batch_statistics import check_batch_statistics
from minuteloop.config.composed_files import Files, replace_slots
from minuteloop.config.errors import is_user_error, one_line, reject_hidden_config
from minuteloop.config.file_cache import cache_files
from minuteloop.config.ingredient_effects import fitted_recipe
from minuteloop.config.instantiate import check_optimizer, schema_of
from minuteloop.config.modernization_steps import check_steps, replaced_steps
from minuteloop.config.overrides import check_overrides
from minuteloop.config.wandb_environment import check_wandb_environment
from minuteloop.schema import TRAIN_IMAGES, Command, Config, StudyConfig, TuneConfig
from minuteloop.validation import ConfigError, check, flat, parse_numbers, rule_of

# a wheel carries conf/ and recipes/ inside the package, a checkout beside src/
PACKAGE = Path(__file__).parents[1]
CONF, RECIPES = (
    next(folder for folder in (PACKAGE / name, PACKAGE.parents[1] / name) if folder.is_dir())
    for name in ("conf", "recipes")
)
IMAGE_SIZE = 32  # pixels, of every dataset

# arguments of Lightning's Trainer that a run sets itself -> the key that users set instead
TRAINER_SET_BY_RUN = {
    **{"accelerator": "device", "devices": "devices"},
    "precision": "precision",
    "gradient_clip_val": "recipe.clip_grad",
    "accumulate_grad_batches": "recipe.batch_size",
    **dict.fromkeys(("max_epochs", "max_steps"), "budget"),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch"), "evaluations"),
    "limit_val_batches": "data.holdout",
    "logger": "logger",
    "callbacks": "recipe.callbacks",
    **dict.fromkeys(("plugins", "num_sanity_val_steps", "enable_checkpointing", "fast_dev_run"), None),
    **dict.fromkeys(("enable_progress_bar", "enable_model_summary"), None),
}

# names of environment variables that hold secrets, such as WANDB_API_KEY
SECRET = r"SECRET|TOKEN|PASSW|CREDENTIAL|(^|_)(API)?KEY(_|$)"

# Hydra 1.4 has no version_base and takes a list of what a config may call; its OmegaConf renames a function
HYDRA_1_4 = "execution_whitelist" in inspect.signature(hydra.main).parameters
register_resolver = OmegaConf.register_resolver if HYDRA_1_4 else OmegaConf.register_new_resolver

ConfigStore.instance().store(name="schema", node=Command)
register_resolver("run_id", lambda: secrets.token_hex(3), use_cache=True)
# of compound scaling to twice the multiply-adds: alpha beta^2 gamma^2 = 2 (Tan 2019, equation 3)
register_resolver("compound_gamma", lambda alpha, beta: (2 / (alpha * beta**2)) ** 0.5)


class NamedRuns(SearchPathPlugin):
    """Lets `-cn NAME` find the named runs of recipes/ wherever the command is typed."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append recipes/ to Hydra's search path."""
        search_path.append("minuteloop", f"file://{RECIPES}")


Plugins.instance().register(NamedRuns)


def compose(
    overrides: list[str] | tuple[str, ...] = (),
    config_name: str = "config",
    config_dir: str = "",
    image_size: int = IMAGE_SIZE,
) -> Config:
    """Return the checked config for command-line `overrides`.

    `config_dir` is what `-cd` is on the command line: a folder searched beside conf/, whose classes can be imported.
    The arch is checked for images of `image_size` pixels.

    Raises:
        ConfigError: if the config is not valid.
    """
    return compose_with_hydra(overrides, config_name, config_dir, image_size)[0]


def compose_with_hydra(
    overrides: list[str] | tuple[str, ...],
    config_name: str = "config",
    config_dir: str = "",
    image_size: int = IMAGE_SIZE,
) -> tuple[Config, DictConfig]:
    """Return the checked config and Hydra's own, whose `run.dir` is resolved. Raises ConfigError."""
    with own_hydra(overrides, config_dir):
        cfg = hydra.compose(config_name, overrides=list(overrides), return_hydra_config=True)
        settings = cfg.hydra
        OmegaConf.resolve(settings.run)
        return checked(cfg, settings, image_size), settings


@contextlib.contextmanager
def own_hydra(overrides: list[str] | tuple[str, ...], config_dir: str) -> Iterator[None]:
    """Start a Hydra for composing `overrides`, beside that of a program around this one.

    Raises:
        ConfigError: for an error of the user's inside.
    """
    check_overrides(overrides, CONF)
    search_path = create_config_search_path(str(CONF))
    if config_dir:
        if not Path(config_dir).is_dir():
            raise ConfigError(f"config_dir={config_dir}: no such folder")
        search_path.prepend("command-line", f"file://{Path(config_dir).resolve()}", anchor="schema")
    previous, version_base = GlobalHydra.instance().hydra, None if HYDRA_1_4 else version.getbase()
    GlobalHydra.instance().clear()
    try:
        if not HYDRA_1_4:
            version.setbase("1.3")
        cache_files(Hydra.create_main_hydra2("train", search_path).config_loader)
        yield
    except Exception as error:
        if not is_user_error(error):
            raise
        raise ConfigError(one_line(error, CONF, overrides)) from error
    finally:
        GlobalHydra.instance().hydra = previous
        if not HYDRA_1_4:
            version.VersionBase.instance().version_base = version_base


def typed(content: dict) -> Config:
    """Return the config that a record holds. Raises ConfigError for a record of another version."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(schema_of(Config), content))
    except OmegaConfBaseException as error:
        raise ConfigError(f"config of the record: {one_line(error, CONF)}") from error


def study_settings(cfg: DictConfig) -> StudyConfig | None:
    """Return the settings of a composed config's study, or None where it has none."""
    settings = OmegaConf.to_object(OmegaConf.merge(schema_of(StudyConfig), cfg.get("study", {})))
    return None if settings == StudyConfig() else settings


def search_settings(cfg: DictConfig) -> TuneConfig | None:
    """Return the checked settings of a composed config's search, or None where it has none. Raises ConfigError."""
    settings = OmegaConf.to_object(OmegaConf.merge(schema_of(TuneConfig), cfg.get("tune", {})))
    check(settings, "tune.")
    return None if settings == TuneConfig() else settings


def without_search(cfg: DictConfig) -> DictConfig:
    """Return a composed config without the settings of a search, as one of its trials."""
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "tune"])


def checked(cfg: DictConfig, settings: DictConfig, image_size: int = IMAGE_SIZE) -> Config:
    """Return a run's typed config after all checks: key rules, ingredients, steps that hold and act, norms.

    `settings` is Hydra's own config. What a study asks is no part of its runs. Raises ConfigError, also for a search.
    """
    reject_hidden_config(settings, CONF)
    _make_user_folders_importable(settings)
    if settings.mode != RunMode.MULTIRUN and study_settings(cfg):
        raise ConfigError("study: needs a sweep; add -m, or hydra: {mode: MULTIRUN} to the file of the study")
    if search_settings(cfg):
        raise ConfigError("tune: is a search, not a run or a sweep; use minuteloop tune")
    cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in ("hydra", "study", "tune", "cells")])
    _check_missing(cfg)
    _check_secrets(cfg)
    cfg = OmegaConf.merge(schema_of(Config), cfg)
    OmegaConf.set_struct(cfg, False)  # set by Hydra's command line, but not by its compose
    files = Files(settings)
    replace_slots(cfg, files)
    config = OmegaConf.to_object(cfg)
    parse_numbers(config)
    check(config)
    if "arch.name" in files.overridden() and config.arch.timm is None:
        name = config.arch.name
        raise ConfigError(f"arch.name={name}: names a timm model; use arch={name}, or arch=timm arch.name={name}")
    check_optimizer(config.recipe, files.overridden())
    _check_sizes(config)
    _check_trainer(config.trainer)
    if config.recipe.batch_size % config.devices:
        raise ConfigError(f"devices={config.devices}: must divide recipe.batch_size={config.recipe.batch_size}")
    if config.logger.name == "tensorboard" and not importlib.util.find_spec("tensorboard"):
        raise ConfigError("logger=tensorboard: needs the package tensorboard; run pip install tensorboard")
    if config.logger.name == "wandb":
        check_wandb_environment()
    replaced = replaced_steps(cfg, files)
    applied = {step: source for step, source in config.arch.applied.items() if step not in replaced}
    config = dataclasses.replace(config, arch=dataclasses.replace(config.arch, applied=applied, replaced=replaced))
    spec = check_steps(cfg, config, files, image_size)
    config = dataclasses.replace(config, recipe=fitted_recipe(cfg, config, spec, files))
    check_batch_statistics(config, image_size)
    return config


def _check_missing(cfg: DictConfig) -> None:
    """Raise ConfigError where a value is ???, which OmegaConf would replace by the default."""
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise ConfigError(f"{key}=???: {rule_of(Config, key) or 'must have a value'}")


def _check_secrets(cfg: DictConfig) -> None:
    """Raise ConfigError where a value comes from an environment variable that holds a secret by its name."""
    for key, value in flat(OmegaConf.to_container(cfg, resolve=False)).items():
        for variable in re.findall(r"\$\{oc\.env:\s*(\w+)", str(value)):
            if re.search(SECRET, variable.upper()):
                raise ConfigError(f"{key}=${{oc.env:{variable}}}: must not be a secret; the record and W&B keep it")


def _check_sizes(config: Config) -> None:
    """Raise ConfigError where batch, repeats and holdout do not fit the dataset."""
    recipe, data = config.recipe, config.data
    if recipe.repeats > recipe.batch_size:
        raise ConfigError(f"recipe.repeats={recipe.repeats}: must be <= recipe.batch_size={recipe.batch_size}")
    total = TRAIN_IMAGES[data.name]
    if data.holdout >= total:
        raise ConfigError(f"data.holdout={data.holdout}: must be < {total}, the training images of {data.name}")
    if config.test is False and data.holdout == 0:
        raise ConfigError("test=false: must be true or auto with data.holdout=0, since nothing else is evaluated")
    if recipe.batch_size > total - data.holdout:
        left = f"the training images of {data.name} without data.holdout"
        raise ConfigError(f"recipe.batch_size={recipe.batch_size}: must be <= {total - data.holdout}, {left}")


def _check_trainer(arguments: dict[str, Any]) -> None:
    """Raise ConfigError for an argument that the run sets itself; trainer.check_trainer_arguments checks the rest."""
    for name, value in arguments.items():
        if name in TRAINER_SET_BY_RUN:
            key = TRAINER_SET_BY_RUN[name]
            raise ConfigError(f"trainer.{name}={value}: set by the run; {f'use {key}=...' if key else 'remove it'}")


def _make_user_folders_importable(settings: DictConfig) -> None:
    """Add a folder given with -cd to sys.path; raise ConfigError where conf/ would hide one of its files."""
    for source in settings.runtime.config_sources:
        if source.provider == "command-line":
            if source.path not in sys.path:
                sys.path.append(source.path)
            for file in Path(source.path).glob("*/*.yaml"):
                if (CONF / file.parent.name / file.name).exists():
                    raise ConfigError(f"{file}: conf/ has a file of this name, which Hydra finds first; rename yours")
