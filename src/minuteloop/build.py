"""Compose a config with Hydra, check what was composed, and make the ingredients that it names.

Hydra is known here and, for its errors, in mistakes.py; no torch is imported, so that a mistake is reported at once.
"""

import dataclasses
import importlib
import inspect
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from minuteloop import schema
from minuteloop.mistakes import in_one_line, one_line, refuse_hidden
from minuteloop.nets.blueprint import resolve
from minuteloop.recipe import STAGES, Ingredients
from minuteloop.resume import folder_for
from minuteloop.schema import TRAIN_IMAGES, Config, ConfigError, flat, nearest

# a wheel carries conf/ inside the package, a checkout beside src/
PACKAGE = Path(__file__).parent
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if folder.is_dir())

STARTED = time.perf_counter()  # of a command line: the first import of the package
IMAGE_SIZE = 32  # side in pixels, of every dataset

# Hydra 1.4 deprecates version_base and wants to be told what a config may call; its OmegaConf renames a function
HYDRA_1_4 = "execution_whitelist" in inspect.signature(hydra.main).parameters
MAIN = {"execution_whitelist": ["minuteloop.build.RefuseBadConfig"]} if HYDRA_1_4 else {"version_base": "1.3"}
register_resolver = OmegaConf.register_resolver if HYDRA_1_4 else OmegaConf.register_new_resolver

ConfigStore.instance().store(name="schema", node=Config)
register_resolver("run_id", lambda: secrets.token_hex(3), use_cache=True)


# --- compose ----------------------------------------------------------------------------------------------------


def main() -> None:
    """The command line: compose, check, train. A user's mistake ends it with one line and exit code 1."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing
    with in_one_line(CONF):
        hydra.main(**MAIN, config_path=str(CONF), config_name="config")(_job)()


def _job(cfg: DictConfig) -> float | None:
    from minuteloop.run import train

    settings = HydraConfig.get()
    asked, folder = _checked(cfg, settings), Path(settings.runtime.output_dir)
    if settings.mode == RunMode.RUN:
        with in_one_line(CONF):  # Hydra would put one of its own before it
            record = train(asked, folder, STARTED)
    else:
        made, folder = folder, folder_for(asked, folder, Path(settings.sweep.dir).parent, "*/*")
        if folder != made:
            made.rmdir()
        record = train(asked, folder)
    if record["status"] == "interrupted":
        sys.exit(130)  # as a shell reports SIGINT
    return record["metrics"].get("val/acc")


class RefuseBadConfig(Callback):
    """Refuses a config before Hydra makes the run's folder."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        try:
            folder = folder_for(_checked(_without_hydra(config), config.hydra), Path(config.hydra.run.dir))
            with read_write(config.hydra.run):
                config.hydra.run.dir = str(folder)
        except (ConfigError, OmegaConfBaseException) as error:
            sys.exit(f"error: {one_line(error, CONF)}")  # Hydra turns any other exception of a callback into a warning


def compose(
    overrides: list[str] | tuple[str, ...] = (),
    config_name: str = "config",
    config_dir: str = "",
    image_size: int = IMAGE_SIZE,
) -> Config:
    """The checked config for command-line `overrides`, from Python.

    `config_dir` is a folder searched beside conf/, as `-cd` on the command line; the arch is checked for images of
    side `image_size` (pixels). Raises ConfigError.
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
        search_path.prepend("command-line", f"file://{Path(config_dir).resolve()}", anchor="schema")
    previous = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        Hydra.create_main_hydra2("train", search_path)
        cfg = hydra.compose(config_name, overrides=overrides, return_hydra_config=True)
        settings = cfg.hydra
        OmegaConf.resolve(settings.run)
        return _checked(_without_hydra(cfg), settings, image_size), settings
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error, CONF)) from error
    finally:
        GlobalHydra.instance().hydra = previous


def typed(content: dict) -> Config:
    """The config that a record holds. Raises ConfigError where it is one of another version's."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), content))
    except OmegaConfBaseException as error:
        raise ConfigError(f"the record's config: {one_line(error, CONF)}") from error


def _without_hydra(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])


def _checked(cfg: DictConfig, settings: DictConfig, image_size: int = IMAGE_SIZE) -> Config:
    """The typed config, or ConfigError: key rules, ingredients, and steps that hold and change something."""
    refuse_hidden(settings, CONF)
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), cfg))
    schema.check(config)
    for where, node in ingredient_nodes(config.recipe):
        ingredient(node, where)
    left = TRAIN_IMAGES[config.data.name] - config.data.holdout
    if config.recipe.batch_size > left:
        raise ConfigError(
            f"recipe.batch_size={config.recipe.batch_size}: {config.data.name} less data.holdout has {left} images"
        )
    _check_steps(cfg, config, settings, image_size)
    return config


# --- modernization steps ----------------------------------------------------------------------------------------


def _check_steps(cfg: DictConfig, config: Config, settings: DictConfig, image_size: int) -> None:
    """A listed step must hold and must change something; a step of the arch may be replaced, which is recorded.

    Rewrites `config.arch.applied` and `.replaced`. Raises ConfigError.
    """
    overrides = [*settings.overrides.hydra, *settings.overrides.task]
    loader = GlobalHydra.instance().config_loader()
    defaults = loader.compute_defaults_list(settings.job.config_name, overrides, RunMode.RUN).defaults
    found = [entry for entry in defaults if (entry.config_path or "").startswith("modernization/")]
    deltas = {entry.config_path: flat(_read(settings, entry.config_path)) for entry in found}
    listed = [entry.config_path for entry in found if not (entry.parent or "").startswith("arch/")]
    final = flat(OmegaConf.to_container(cfg.arch))

    for step in listed:
        for key, value in deltas[step].items():
            if final.get(key) != value:
                others = [_word(other) for other in listed if deltas[other].get(key, value) != value]
                by = f" (step {others[-1]})" if others else ""
                raise ConfigError(f"step {_word(step)} sets arch.{key}={value}, but it ends as {final.get(key)}{by}")
    for step in deltas.keys() - listed:
        for key, value in deltas[step].items():
            if final.get(key) != value:
                by = [_word(other) for other in listed if key in deltas[other]] or [f"arch.{key}={final.get(key)}"]
                config.arch.applied.pop(_word(step), None)
                config.arch.replaced[_word(step)] = by[-1]
    text = resolve(config.arch, config.size, image_size, 10).text()
    if listed:
        plain = [word for word in overrides if not word.startswith("modernization=")]
        base = loader.load_configuration(settings.job.config_name, [*plain, "modernization=[]"], RunMode.RUN)
        before = flat(OmegaConf.to_container(base.arch))
        for step in listed:
            others = {key for other in listed if other != step for key in deltas[other]}
            without = OmegaConf.merge(cfg.arch)
            for key in deltas[step].keys() - others:
                OmegaConf.update(without, key, before.get(key))
            idle = resolve(OmegaConf.to_object(without), config.size, image_size, 10).text() == text
            if idle or listed.count(step) > 1:
                raise ConfigError(f"step {_word(step)} changes nothing here; take it out of modernization=[...]")


def _word(config_path: str) -> str:
    return config_path.rpartition("/")[2]


def _read(settings: DictConfig, config_path: str) -> dict:
    """What a step's file sets in arch."""
    for source in settings.runtime.config_sources:
        file = Path(source.path) / f"{config_path}.yaml"
        if source.schema == "file" and file.is_file():
            node = OmegaConf.to_container(OmegaConf.load(file))
            return {key: value for key, value in node.items() if key not in ("applied", "defaults")}
    raise ConfigError(f"{config_path}.yaml: a step has to be a file in conf/ or in a folder given with -cd")


# --- ingredients ------------------------------------------------------------------------------------------------


def ingredient_nodes(recipe: schema.Recipe) -> Iterator[tuple[str, dict]]:
    """(key, node) of every ingredient of `recipe`; an entry switched off with null is left out."""
    for key in ("optimizer", "schedule", "loss", *(("views",) if recipe.views is not None else ())):
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
    )


def _import(target: str, where: str) -> type:
    module, _, name = str(target).rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where}._target_={target}: cannot be imported ({error})") from error
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ConfigError(f"{where}._target_={target}: not a dataclass, so its fields cannot be checked")
    return cls
