"""Compose a config with Hydra, check what was composed, and make the ingredients that it names.

Command line and Python come through here; no torch is imported, so that a mistake is reported at once.
"""

import dataclasses
import importlib
import inspect
import secrets
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from minuteloop import deltas, schema
from minuteloop.mistakes import is_mistake, one_line, refuse_hidden
from minuteloop.recipe import STAGES, Ingredients
from minuteloop.resume import folder_for
from minuteloop.schema import TRAIN_IMAGES, Config, ConfigError, nearest

# a wheel carries conf/ inside the package, a checkout beside src/
PACKAGE = Path(__file__).parent
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if folder.is_dir())

STARTED = time.perf_counter()  # of a command line: the first import of the package
IMAGE_SIZE = 32  # side in pixels, of every dataset

# Hydra 1.4 has no version_base and wants to be told what a config may call; its OmegaConf renames a function
HYDRA_1_4 = "execution_whitelist" in inspect.signature(hydra.main).parameters
register_resolver = OmegaConf.register_resolver if HYDRA_1_4 else OmegaConf.register_new_resolver

ConfigStore.instance().store(name="schema", node=Config)
register_resolver("run_id", lambda: secrets.token_hex(3), use_cache=True)


# --- compose ----------------------------------------------------------------------------------------------------


def compose(
    overrides: list[str] | tuple[str, ...] = (),
    config_name: str = "config",
    config_dir: str = "",
    image_size: int = IMAGE_SIZE,
) -> Config:
    """The checked config for command-line `overrides`, from Python.

    `config_dir` is a folder searched beside conf/ and, for the classes that it names, on sys.path, as `-cd` on the
    command line; the arch is checked for images of side `image_size` (pixels). Raises ConfigError.
    """
    return _compose(list(overrides), config_name, config_dir, image_size)[0]


def compose_run(
    overrides: list[str] | tuple[str, ...], config_name: str = "config", config_dir: str = ""
) -> tuple[Config, Path]:
    """As `compose`, with the folder that the run is to leave its record in."""
    config, settings = _compose(list(overrides), config_name, config_dir)
    return config, folder_for(config, Path(settings.run.dir))


def _compose(
    overrides: list[str], config_name: str, config_dir: str = "", image_size: int = IMAGE_SIZE
) -> tuple[Config, DictConfig]:
    if not HYDRA_1_4:
        version.setbase("1.3")
    search_path = create_config_search_path(str(CONF))
    if config_dir:
        if not Path(config_dir).is_dir():
            raise ConfigError(f"config_dir={config_dir}: there is no such folder")
        search_path.prepend("command-line", f"file://{Path(config_dir).resolve()}", anchor="schema")
    previous = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        Hydra.create_main_hydra2("train", search_path)
        cfg = hydra.compose(config_name, overrides=overrides, return_hydra_config=True)
        settings = cfg.hydra
        OmegaConf.resolve(settings.run)
        return checked(without_hydra(cfg), settings, image_size), settings
    except Exception as error:
        if not is_mistake(error):
            raise
        raise ConfigError(one_line(error, CONF)) from error
    finally:
        GlobalHydra.instance().hydra = previous


def typed(content: dict) -> Config:
    """The config that a record holds. Raises ConfigError where it is one of another version's."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), content))
    except OmegaConfBaseException as error:
        raise ConfigError(f"the record's config: {one_line(error, CONF)}") from error


def without_hydra(cfg: DictConfig) -> DictConfig:
    """A composed config without Hydra's own node."""
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])


def checked(cfg: DictConfig, settings: DictConfig, image_size: int = IMAGE_SIZE) -> Config:
    """The typed config, or ConfigError: key rules, ingredients, and steps that hold and change something."""
    refuse_hidden(settings, CONF)
    _open_folders(settings)
    cfg = OmegaConf.merge(OmegaConf.structured(Config), cfg)
    OmegaConf.set_struct(cfg, False)  # that Hydra's command line sets, and its compose does not
    files = deltas.Files(settings)
    deltas.replace_slots(cfg, files)
    config = OmegaConf.to_object(cfg)
    schema.check(config)
    for where, node in ingredient_nodes(config.recipe):
        ingredient(node, where)
    if config.recipe.repeats > config.recipe.batch_size:
        raise ConfigError(
            f"recipe.repeats={config.recipe.repeats}, more than the {config.recipe.batch_size} of a batch"
        )
    has = TRAIN_IMAGES[config.data.name]
    left = has - config.data.holdout
    if left < 1:
        raise ConfigError(f"data.holdout={config.data.holdout}: {config.data.name} has {has} training images")
    if config.recipe.batch_size > left:
        raise ConfigError(
            f"recipe.batch_size={config.recipe.batch_size}: {config.data.name} less data.holdout has {left} images"
        )
    deltas.check_steps(cfg, config, files, image_size)
    return config


def _open_folders(settings: DictConfig) -> None:
    """Makes the classes in a folder given with -cd importable; a file there that conf/ would hide is refused."""
    for source in settings.runtime.config_sources:
        if source.provider == "command-line":
            if source.path not in sys.path:
                sys.path.append(source.path)
            for file in Path(source.path).glob("*/*.yaml"):
                if (CONF / file.parent.name / file.name).exists():
                    raise ConfigError(f"{file}: conf/ has this name too and is searched first; give yours another")


# --- ingredients ------------------------------------------------------------------------------------------------


def ingredient_nodes(recipe: schema.Recipe) -> Iterator[tuple[str, dict]]:
    """(key, node) of every ingredient of `recipe`; an entry switched off with null is left out."""
    for key in ("optimizer", "schedule", "loss"):
        yield f"recipe.{key}", getattr(recipe, key)
    for key in ("views", "progressive"):
        if getattr(recipe, key) is not None:
            yield f"recipe.{key}", getattr(recipe, key)
    for key in ("batch", "regularizers", "callbacks"):
        for name, node in getattr(recipe, key).items():
            if node is not None:
                yield f"recipe.{key}.{name}", node


def ingredient(node: Any, where: str) -> Any:
    """The object that `node` names: `_target_` is an importable dataclass, the other keys are its fields.

    Raises ConfigError naming the key `where` and the nearest field.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"{where}={node}: an ingredient needs _target_ and its fields")
    cls = _import(node["_target_"], where)
    fields = {spec.name for spec in dataclasses.fields(cls)}
    given = {key: value for key, value in node.items() if key != "_target_"}
    for key in sorted(given.keys() - fields):
        raise ConfigError(f"{where}.{key}: {cls.__name__} has no such field{nearest(key, sorted(fields))}")
    try:
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), given))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}.{error.full_key}: {error.msg.splitlines()[0]}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:  # of a user's __post_init__
        raise ConfigError(f"{where}: {_told(error)}") from error
    schema.check(made, where + ".")
    if where.startswith("recipe.batch.") and getattr(made, "stage", None) not in STAGES:
        raise ConfigError(f"{where}: {cls.__name__}.stage has to be one of {', '.join(STAGES)}")
    return made


def ingredients(recipe: schema.Recipe) -> Ingredients:
    """The ingredients of a checked recipe."""
    made = {where: ingredient(node, where) for where, node in ingredient_nodes(recipe)}

    def of(group: str) -> tuple:
        return tuple(value for where, value in made.items() if where.startswith(f"recipe.{group}."))

    return Ingredients(
        optimizer=made["recipe.optimizer"],
        schedule=made["recipe.schedule"],
        loss=made["recipe.loss"],
        transforms=of("batch"),
        regularizers=of("regularizers"),
        callbacks=of("callbacks"),
        views=made.get("recipe.views"),
        progressive=made.get("recipe.progressive"),
    )


def _import(target: str, where: str) -> type:
    module, _, name = str(target).rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's file can raise anything
        raise ConfigError(f"{where}._target_={target}: cannot be imported ({_told(error)})") from error
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ConfigError(f"{where}._target_={target}: not a dataclass, so its fields cannot be checked")
    return cls


def _told(error: Exception) -> str:
    """The error in one line, with the file and line of a user's code that raised it."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = last.filename.startswith((str(PACKAGE), "<frozen", importlib.__file__))
    return text if ours else f"{text}; {last.filename}, line {last.lineno}"
