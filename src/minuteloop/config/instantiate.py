"""Ingredients of a recipe: from config nodes (`_target_` and fields) to checked dataclass instances."""

import dataclasses
import functools
import importlib
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from minuteloop.config.overrides import OPTIONAL
from minuteloop.recipe.ingredients import STAGES, Ingredients
from minuteloop.schema import Recipe
from minuteloop.validation import ConfigError, check, did_you_mean, rule_of, spell

PACKAGE = Path(__file__).parents[1]


@functools.cache
def schema_of(cls: type) -> DictConfig:
    """Return the typed config of a dataclass, to merge values into: `OmegaConf.merge` copies its first argument."""
    return OmegaConf.structured(cls)


def ingredient_nodes(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Yield (key, node) of every ingredient of `recipe`, without those switched off with null."""
    for key in ("optimizer", "schedule", "loss"):
        yield f"recipe.{key}", getattr(recipe, key)
    for key in ("tta", "progressive"):
        if getattr(recipe, key) is not None:
            yield f"recipe.{key}", getattr(recipe, key)
    for key in ("batch", "regularizers", "callbacks"):
        for name, node in getattr(recipe, key).items():
            if node is not None:
                yield f"recipe.{key}.{name}", node


def ingredient(node: Any, where: str) -> Any:
    """Return the dataclass instance that `node`, the value of the key `where`, describes.

    Raises:
        ConfigError: naming the key and the closest field.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"{where}={node}: must be a mapping with _target_ and the fields of the ingredient")
    cls = _import(node["_target_"], where)
    fields = {spec.name for spec in dataclasses.fields(cls)}
    values = {key: value for key, value in node.items() if key != "_target_"}
    for key in sorted(values.keys() - fields):
        raise ConfigError(f"{where}.{key}: {cls.__name__} has no such field{did_you_mean(key, sorted(fields))}")
    try:
        schema = schema_of(cls)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}.{error.full_key}: {error.msg.splitlines()[0]}") from error
    try:
        instance = OmegaConf.to_object(OmegaConf.merge(schema, values))
    except OmegaConfBaseException as error:
        key = error.full_key.partition("[")[0]
        if key not in values:  # a required field, or one inside a nested value
            raise ConfigError(f"{where}.{error.full_key}: {error.msg.splitlines()[0]}") from error
        reason = rule_of(cls, key) or error.msg.splitlines()[0]
        raise ConfigError(f"{where}.{key}={spell(values[key])}: {reason}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from error
    except Exception as error:  # raised by a user's __post_init__
        raise ConfigError(f"{where}: {_describe(error)}") from error
    try:
        check(instance, where + ".")
    except ConfigError as error:
        zero = re.search(r"=(0(\.0)?|False): ", str(error)) and where.startswith(OPTIONAL)
        raise ConfigError(f"{error}; ~{where} switches it off" if zero else str(error)) from error
    if where.startswith("recipe.batch.") and getattr(instance, "stage", None) not in STAGES:
        raise ConfigError(f"{where}: {cls.__name__}.stage must be one of {', '.join(STAGES)}")
    return instance


def check_optimizer(recipe: Recipe, typed: set[str]) -> None:
    """Check that `auto` has a value, and that no key in `typed`, those of the command line, has no effect.

    Raises ConfigError.
    """
    optimizer = ingredient(recipe.optimizer, "recipe.optimizer")
    rules = {
        "lr": ("auto_lr", getattr(optimizer, "auto_lr_fields", ())),
        "weight_decay": ("weight_decay", ("weight_decay",)),
    }
    for key, (source, replaced) in rules.items():
        value = getattr(recipe, key)
        if value == "auto":
            if not hasattr(optimizer, source):
                raise ConfigError(f"recipe.{key}=auto: must be a number; {type(optimizer).__name__} has no {source}")
            continue
        for name in replaced:
            if (where := f"recipe.optimizer.{name}") in typed:
                raise ConfigError(
                    f"{where}={spell(getattr(optimizer, name))}: has no effect with recipe.{key}={value}; remove one"
                )


def ingredients(recipe: Recipe) -> Ingredients:
    """Return the ingredients of a checked recipe."""
    instances = {where: ingredient(node, where) for where, node in ingredient_nodes(recipe)}

    def group(name: str) -> dict:
        prefix = f"recipe.{name}."
        return {where.removeprefix(prefix): value for where, value in instances.items() if where.startswith(prefix)}

    return Ingredients(
        optimizer=instances["recipe.optimizer"],
        schedule=instances["recipe.schedule"],
        loss=instances["recipe.loss"],
        transforms=group("batch"),
        regularizers=group("regularizers"),
        callbacks=group("callbacks"),
        tta=instances.get("recipe.tta"),
        progressive=instances.get("recipe.progressive"),
    )


def _import(target: str, where: str) -> type:
    module, _, name = str(target).rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's file can raise anything
        raise ConfigError(f"{where}._target_={target}: cannot be imported ({_describe(error)})") from error
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ConfigError(f"{where}._target_={target}: must be a dataclass, so that its fields can be checked")
    return cls


def _describe(error: Exception) -> str:
    """Return the error in one line, with the file and line of the user's code that raised it."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    last = traceback.extract_tb(error.__traceback__)[-1]
    is_ours = last.filename.startswith((str(PACKAGE), "<frozen", importlib.__file__))
    return text if is_ours else f"{text}; {last.filename}, line {last.lineno}"
